"""A sweep against a store: what is done, and what is left as packs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from ..scheduler.devices import here
from ..scheduler.estimate import Estimate, History, estimate
from ..scheduler.packing import PlannedPack, packs
from ..scheduler.pending import Entry, Pending, pending
from ..scheduler.pools import USUAL, Pool
from ..spec.sweep import Sweep
from ..store import queries, side_files
from ..store.outcome import Done
from ..store.store import Store
from .checkpoints import CheckpointStore


@dataclass(frozen=True)
class Plan:
    """What a run finds done, and what it is to do."""

    sweep: Sweep
    jobs: int
    done: int
    packs: list[PlannedPack]
    pools: Sequence[Pool]  # of workers that they are for
    estimate: Estimate
    elsewhere: int  # jobs that lack results and are other drivers' share
    stale: list[Pending]  # jobs with results from code that has changed since

    @property
    def to_run(self) -> int:
        """Number of jobs in all packs."""
        return sum(len(planned.pack.jobs) for planned in self.packs)

    @property
    def ready(self) -> list[PlannedPack]:
        """The packs that wait for no experts."""
        return [planned for planned in self.packs if not planned.waits]

    @property
    def seconds(self) -> float:
        """Predicted seconds of all packs, one after the other."""
        return sum(planned.seconds for planned in self.packs)

    @property
    def why(self) -> dict[str, int]:
        """Number of jobs that are to run, by reason."""
        reasons: Counter[str] = Counter()
        for planned in self.packs:
            reasons.update(dict(planned.why))
        return dict(reasons.most_common())


def make_plan(
    sweep: Sweep,
    store: Store,
    pools: Callable[[], Sequence[Pool]] = lambda: (),
    keep_stale: bool = False,
    checkpoints: CheckpointStore | None = None,
    owns: Callable[[str], bool] = lambda job: True,
    without: Collection[str] = (),
) -> Plan:
    """What a sweep still lacks in a store, as packs.

    pools: of the workers that they are for, asked for when all else is known, as nodes of a cluster take their time; by
    default those of this machine. keep_stale: results of code that has
    changed since are good enough. owns: which jobs are this driver's.
    without: jobs that were tried, and failed.
    """
    place, jobs = store.place, 0

    def counted() -> Iterator[Entry]:
        nonlocal jobs
        for entry in sweep.entries():
            jobs += 1
            yield entry

    done = queries.done(place)
    parts = partial(side_files.code_parts, place)
    lacking = _with_waits(list(pending(counted(), done, queries.failed(place), parts, keep_stale)), done)
    left = [one for one in lacking if one.job.id not in without]
    own = [one for one in left if owns(one.job.id)]
    known = [with_history(store, one) for one in pools() or [here(None)]]
    planned = packs(own, known, (checkpoints or CheckpointStore(place, mend=False)).point)
    costs = {one.kind: [its.cost for its in planned if its.cost and its.pool == one.kind] for one in known}
    time = estimate((costs[one.kind], one.workers) for one in known)
    stale = [one for one in own if one.stale_tests]
    return Plan(sweep, jobs, jobs - len(lacking), planned, known, time, len(left) - len(own), stale)


def with_history(store: Store, pool: Pool) -> Pool:
    """A pool with what packs have cost on its device, and the widths that were too much for it."""
    costs, widths = queries.pack_costs(store.place, pool.device), side_files.widths(store.place, pool.device)
    return replace(pool, history=History.of(costs, widths, USUAL[pool.kind]))


def _with_waits(lacking: list[Pending], done: Done) -> list[Pending]:
    """The jobs that lack results, with those marked whose experts lack them too."""
    undone = {one.job.id for one in lacking if not one.trained}
    return [
        replace(one, waits=True)
        if one.job.case.experts and not one.trained and any(e.id in undone or e.id not in done for e in one.job.experts)
        else one
        for one in lacking
    ]
