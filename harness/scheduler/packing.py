"""From jobs to packs: how wide, and in which order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from lfombench.tasks import Task

from ..spec.fingerprint import code
from ..spec.job import Job
from ..training.cost import structure
from ..training.pack import Cost, Pack
from .pending import Pending
from .pools import Pool, divided

Point = tuple[int, ...]  # in training, at which jobs can go on together

LONGEST = 20.0  # seconds of a pack: what is lost at most when a worker dies, and how often a board can move
CHEAP = 5.0  # seconds: packs below this go first, so that a board soon has something to show


@dataclass(frozen=True)
class PlannedPack:
    """A pack with what is known before it runs."""

    pack: Pack
    cost: Cost | None = None
    pool: str = ""  # the kind of the workers that it was made for; empty for any
    why: tuple[tuple[str, int], ...] = ()  # reasons to run it, each with its number of jobs
    waits: bool = False  # for experts that are not trained yet
    eager: bool = False  # is never compiled: for an audit
    profiled: bool = False  # measures the parts of its training step as well
    first: float | None = None  # seconds that the pool took for it that it was made for, where another runs it

    @property
    def seconds(self) -> float:
        """As first planned, by which progress is measured; 0 where nothing is."""
        return self.first or (self.cost.seconds if self.cost else 0.0)

    def for_jobs(self, jobs: Sequence[Job]) -> PlannedPack:
        """Some of the jobs, with their share of the predicted time."""
        share, cost = len(jobs) / len(self.pack.jobs), self.cost
        if cost is not None:
            cost = replace(cost, seconds=cost.seconds * share, low=cost.low * share, high=cost.high * share)
        return replace(
            self, pack=replace(self.pack, jobs=tuple(jobs)), cost=cost, first=self.first and self.first * share
        )

    def on(self, pool: Pool) -> PlannedPack:
        """The same pack, to be run by a worker of another pool."""
        return replace(self, pool=pool.kind, cost=pool.history.cost(self.pack), first=self.seconds)

    def halves(self) -> list[PlannedPack]:
        """Two packs of half the jobs each."""
        half = len(self.pack.jobs) // 2
        return [self.for_jobs(self.pack.jobs[:half]), self.for_jobs(self.pack.jobs[half:])]


@dataclass(frozen=True)
class _Group:
    """What the jobs of a pack have in common."""

    structure: str
    tests: tuple[Task, ...]
    trained: bool
    waits: bool
    point: Point | None  # where their training goes on


def packs(
    jobs: Iterable[Pending],
    pools: Sequence[Pool] = (Pool(),),
    point: Callable[[str, str], Point | None] = lambda job, code: None,
) -> list[PlannedPack]:
    """Jobs grouped by structure, in an order that shows results early and does not end on a long pack.

    pools: what they are for; each gets packs of its own. point: (job, code) -> where training of a job goes on; those
    of one pack go on together.
    """
    groups: dict[_Group, list[Pending]] = {}
    for one in jobs:
        start = None if one.trained else point(one.job.id, code(one.job.case))
        groups.setdefault(_Group(one.job.structure, one.tests, one.trained, one.waits, start), []).append(one)
    planned: list[PlannedPack] = []
    for key, members in groups.items():
        shares = [-(-pool.workers // len(groups)) for pool in pools]  # a lone structure is spread over all workers
        costs = [pool.history.correct(members[0].job, len(key.tests))[0] for pool in pools]
        for pool, share, its in zip(pools, shares, divided(members, costs, shares), strict=True):
            for part in _even(its, width([one.job for one in its], len(key.tests), pool, share)):
                goes_on = f", goes on at step {key.point[1]}" if key.point else ""
                why = tuple(Counter(one.why + goes_on for one in part).items())
                pack = Pack(tuple(one.job for one in part), key.tests, key.trained)
                planned.append(PlannedPack(pack, pool.history.cost(pack), pool.kind, why, key.waits))
    return sorted(planned, key=lambda one: (one.seconds > CHEAP, one.seconds if one.seconds <= CHEAP else -one.seconds))


def width(group: Sequence[Job], tests: int, pool: Pool, share: int = 1) -> int:
    """Jobs of one structure in a pack for a pool: as many as memory holds, a pack's time allows, and leave none of
    `share` workers idle.
    """
    if not group:
        return 1
    cost, _ = pool.history.correct(group[0], tests)
    most = min(LONGEST / cost.each, (pool.memory - cost.bytes_fixed) / cost.bytes_each, len(group))
    if len(group) * cost.each > 2 * cost.fixed:  # else a second worker would mostly compile
        most = min(most, -(-len(group) // share))
    return max(1, min(int(most), pool.history.widest.get(structure(group[0]), len(group))))


def _even(jobs: Sequence[Pending], width: int) -> Iterator[Sequence[Pending]]:
    """Parts of nearly equal size, none wider."""
    parts = -(-len(jobs) // width)
    for i in range(parts):
        yield jobs[i * len(jobs) // parts : (i + 1) * len(jobs) // parts]
