"""Make a view equal to its store: what is wrong, missing or too much there is written, and nothing else.

What should be shown of a job has a digest, which its run keeps as a tag. So the view may be in any state, and this may
run any number of times, beside a sweep and beside others of its kind.
"""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field

from ..errors import UserError
from ..store.manifest import manifests
from ..store.place import Place
from . import contents
from .contents import Contents
from .shown import Shown
from .view import Known, Refused, Unreachable, View

PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)  # seconds between tries to reach a server: the last one again and again
STUBBORN = 3  # tries of one write, while other questions are answered, after which it counts as refused
HOPELESS = 3  # writes in a row that end so: then it is not the values, but a full disk, say


@dataclass
class Work:
    """What a reconciliation has to do, and has done."""

    runs: int = 0  # that the view should have
    to_write: int = 0
    written: int = 0
    removed: int = 0
    digests: dict[str, str] = field(default_factory=dict)  # of what the store has of each job
    interrupted: int = 0  # requests that were not answered
    stubborn: int = 0  # writes in a row that failed while other questions were answered
    refused: dict[str, str] = field(default_factory=dict)  # by job: why it cannot be shown
    began: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float | None:
        """Seconds that are left, at the rate so far."""
        done = self.written + len(self.refused)
        return (time.monotonic() - self.began) / done * (self.to_write - done) if done else None


@dataclass(frozen=True)
class Told:
    """Whom a reconciliation tells, and asks."""

    progress: Callable[[Work], None] = lambda work: None
    waiting: Callable[[str], None] = lambda why: None  # told why a server is waited for
    stop: Callable[[], bool] = lambda: False  # asked between transactions


class Stopped(Exception):
    """A reconciliation that was asked to stop, between two transactions."""


def sync(place: Place, store: str, view: View, told: Told | None = None, anew: bool = False) -> Work:
    """Make a view equal to a store: an experiment for each of its sweeps, a run for each job that has a row.

    store: its id. anew: write all runs, whatever is there. Where a server stops to answer, it is asked again and again,
    until it does or `told.stop` says so; but one that does not answer the first question raises Unreachable.
    """
    told, work = told or Told(), Work()
    while True:
        plans = _asked(place, view, anew, work, told)
        work.runs = sum(len(plan.digests) for plan in plans)
        work.to_write += sum(len(plan.write) for plan in plans)
        told.progress(work)
        interrupted = work.interrupted
        for jobs in _parts(plans):
            of = Contents(place, jobs)
            for plan in plans:
                for batch in _batches(
                    of.runs(plan.sweep, store, [job for job in plan.write if job in jobs]), view.at_once
                ):
                    _persist(view, plan, batch, work, told)
                    told.progress(work)
        for plan in plans:
            _try(functools.partial(view.remove, plan.remove), view, plan, work, told)
            work.removed += len(plan.remove)
        if work.interrupted == interrupted:
            return work
        anew = False  # what an interrupted request left is looked for


def _asked(place: Place, view: View, anew: bool, work: Work, told: Told) -> list[_Plan]:
    """What each experiment lacks, as soon as a tracking store says so that has answered before."""
    for pause in itertools.chain(PAUSES, itertools.repeat(PAUSES[-1])):
        try:
            return _plans(place, view, work, anew)
        except Unreachable as error:
            if not view.answered:
                raise
            work.interrupted += 1
            told.waiting(str(error))
            _pause(pause, told)
    raise AssertionError


def _plans(place: Place, view: View, work: Work, anew: bool) -> list[_Plan]:
    """What each experiment lacks. Those of sweeps that are no more lose their runs."""
    digests, known = contents.digests(place), view.known()
    work.digests = digests
    sweeps = {one.name: {job: digests[job] for job in one.jobs if job in digests} for one in manifests(place)}
    names = [name for name, jobs in sweeps.items() if jobs] + [name for name in known if not sweeps.get(name)]
    return [_Plan(name, sweeps.get(name, {}), known.get(name, []), anew, work.refused) for name in names]


def _parts(plans: Sequence[_Plan]) -> Iterator[set[str]]:
    """The jobs that are to be written, so many at a time as are read at once."""
    jobs = list(dict.fromkeys(job for plan in plans for job in plan.write))
    return (set(jobs[i : i + contents.AT_ONCE]) for i in range(0, len(jobs), contents.AT_ONCE))


class _Plan:
    """What an experiment lacks, and has too much."""

    def __init__(
        self, sweep: str, digests: dict[str, str], known: list[Known], anew: bool, refused: Collection[str]
    ) -> None:
        """refused: jobs that the tracking store has refused in this reconciliation."""
        self.sweep, self.digests = sweep, digests
        # Runs without a digest may be of other stores; of a refused job, one stays that showed it once.
        known = [run for run in known if run.digest is not None or run.job in digests]
        known = [run for run in known if run.job not in refused or not run.digest]
        of: dict[str, list[Known]] = {}
        for run in known:
            of.setdefault(run.job, []).append(run)
        right = {} if anew else {job: _right(of.get(job, ()), digest) for job, digest in digests.items()}
        # The jobs to write, each with the runs whose place its new one takes.
        self.write = {
            job: [run.run for run in of.get(job, ()) if run.active]
            for job in digests
            if right.get(job) is None and job not in refused
        }
        kept = {*right.values(), *(run for runs in self.write.values() for run in runs)}
        self.remove = [run.run for run in known if run.active and run.run not in kept]


def _right(runs: Sequence[Known], digest: str) -> str | None:
    """The run of a job that shows what it should; the last one, if there are several."""
    return max((run.run for run in runs if run.active and run.digest == digest), default=None)


def _batches(runs: Iterator[Shown], size: int) -> Iterator[list[Shown]]:
    while batch := list(itertools.islice(runs, size)):
        yield batch


def _persist(view: View, plan: _Plan, batch: Sequence[Shown], work: Work, told: Told) -> None:
    """Write a batch; where it is refused, each half of it, until it is known which run it is."""
    if told.stop():
        raise Stopped
    try:
        _try(lambda: view.write(view.open(plan.sweep), batch, plan.write), view, plan, work, told)
        work.written += len(batch)
        work.stubborn = 0
    except Refused as error:
        if len(batch) == 1:
            work.refused[batch[0].job] = str(error)
            return
        half = len(batch) // 2
        for part in (batch[:half], batch[half:]):
            _persist(view, plan, part, work, told)


def _try(action: Callable[[], None], view: View, plan: _Plan, work: Work, told: Told) -> None:
    """Do something, as often as it takes until the tracking store answers."""
    failures = 0
    for tries in itertools.count():
        try:
            return action()
        except Unreachable as error:
            why = str(error)
        work.interrupted += 1
        try:
            view.open(plan.sweep)
            failures += 1
            if failures == STUBBORN:
                work.stubborn += 1
                raise (UserError if work.stubborn == HOPELESS else Refused)(why)
        except Unreachable:
            failures = 0
        told.waiting(why)
        _pause(PAUSES[min(tries, len(PAUSES) - 1)], told)


def _pause(seconds: float, told: Told) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if told.stop():
            raise Stopped
        time.sleep(0.1)
