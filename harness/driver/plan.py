"""A sweep against a store: what is done, and what is left as packs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from ..scheduler import packing
from ..scheduler.executors import device_name, memory
from ..scheduler.pending import Done, Entry, Todo, pending
from ..spec.sweep import Sweep
from ..store.store import Store
from ..training.pack import Pack
from .checkpoints import Shelf


@dataclass(frozen=True)
class Plan:
    """What a run finds."""

    sweep: Sweep
    jobs: int
    done: int
    packs: list[Pack]
    estimate: packing.Estimate
    elsewhere: int  # jobs that lack results and are other drivers' share
    stale: list[Todo]  # jobs with results from code that has changed since

    @property
    def to_run(self) -> int:
        """Jobs of all packs."""
        return sum(len(pack.jobs) for pack in self.packs)

    @property
    def ready(self) -> list[Pack]:
        """Packs that wait for no experts."""
        return [pack for pack in self.packs if not pack.waits]

    @property
    def work(self) -> float:
        """Seconds of all packs, one after the other."""
        return sum(pack.expected.seconds for pack in self.packs if pack.expected)

    @property
    def why(self) -> dict[str, int]:
        """How many jobs are to run for each reason."""
        found: Counter[str] = Counter()
        for pack in self.packs:
            found.update(dict(pack.why))
        return dict(found.most_common())


def make_plan(
    sweep: Sweep,
    store: Store,
    workers: int,
    keep: bool = False,
    shelf: Shelf | None = None,
    mine: Callable[[str], bool] = lambda job: True,
    without: Collection[str] = (),
) -> Plan:
    """What is done, and what is left as packs.

    keep: results of code that has changed since are good enough. mine: which jobs are this driver's. without: jobs that
    were tried, and failed.
    """
    shelf = shelf or Shelf(store.place)
    jobs = 0

    def counted() -> Iterator[Entry]:
        nonlocal jobs
        for entry in sweep.entries():
            jobs += 1
            yield entry

    done = store.done()
    lacking = _waiting(list(pending(counted(), done, store.failed(), store.explain, keep)), done)
    left = [one for one in lacking if one.job.id not in without]
    todo = [one for one in left if mine(one.job.id)]
    packs = packing.packs(todo, store.history(device_name()), workers, memory() / max(workers, 1), shelf.point)
    estimate = packing.estimate([pack.expected for pack in packs if pack.expected], workers)
    stale = [one for one in todo if one.stale]
    return Plan(sweep, jobs, jobs - len(lacking), packs, estimate, len(left) - len(todo), stale)


def _waiting(lacking: list[Todo], done: Done) -> list[Todo]:
    """Jobs that lack results, with those marked whose experts are among them."""
    undone = {one.job.id for one in lacking if not one.trained}
    return [
        one._replace(waits=True)
        if one.job.case.experts and not one.trained and any(e.id in undone or e.id not in done for e in one.job.experts)
        else one
        for one in lacking
    ]
