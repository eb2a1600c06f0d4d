"""From jobs to packs: how wide, in which order, and how long they will take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from lfombench.tasks import Task

from ..spec.fingerprint import code
from ..spec.job import Job
from ..training.cost import History, structure
from ..training.pack import Cost, Pack
from .pending import Todo

Point = tuple[int, ...]  # in training, at which jobs can go on together

MEMORY = 1 << 30  # bytes that a pack may take, where nothing says how much there is
LONGEST = 20.0  # seconds of a pack: what is lost at most when a worker dies, and how often a board can move
CHEAP = 5.0  # seconds: packs below this go first, so that a board soon has something to show


def packs(
    todo: Iterable[Todo],
    history: History | None = None,
    workers: int = 1,
    memory: float = MEMORY,
    point: Callable[[str, str], Point | None] = lambda job, code: None,
) -> list[Pack]:
    """Jobs grouped by structure, in an order that shows results early and does not end on a long pack.

    point: (job, code) -> where training of a job goes on; those of one pack go on together.
    """
    history = history or History()
    groups: dict[tuple[str, tuple[Task, ...], bool, bool, Point | None], list[Todo]] = {}
    for one in todo:
        at = None if one.trained else point(one.job.id, code(one.job.case))
        groups.setdefault((one.job.structure, one.tests, one.trained, one.waits, at), []).append(one)
    made: list[tuple[Cost, Pack]] = []
    for (_, tests, trained, waits, at), group in groups.items():
        share = -(-workers // len(groups))  # of the workers: a lone structure is spread over all of them
        for part in _even(group, width([one.job for one in group], len(tests), history, share, memory)):
            from_there = f", goes on at step {at[1]}" if at else ""
            why = tuple(Counter(one.why + from_there for one in part).items())
            pack = Pack(tuple(one.job for one in part), tests, trained=trained, waits=waits, why=why)
            cost = history.cost(pack)
            made.append((cost, replace(pack, expected=cost)))
    made.sort(key=lambda one: (one[0].seconds > CHEAP, one[0].seconds * (1 if one[0].seconds <= CHEAP else -1)))
    return [pack for _, pack in made]


def width(group: Sequence[Job], tests: int, history: History, share: int = 1, memory: float = MEMORY) -> int:
    """Jobs of one structure in a pack: as many as memory holds, a pack's time allows, and leave no worker idle."""
    cost, _ = history.correct(group[0], tests)
    most = min(LONGEST / cost.each, (memory - cost.bytes_fixed) / cost.bytes_each, len(group))
    if len(group) * cost.each > 2 * cost.fixed:  # else a second worker would mostly compile
        most = min(most, -(-len(group) // share))
    return max(1, min(int(most), history.widest.get(structure(group[0]), len(group))))


def _even(group: list[Todo], width: int) -> Iterator[list[Todo]]:
    """Parts of nearly one size, none wider."""
    parts = -(-len(group) // width)
    for i in range(parts):
        yield group[i * len(group) // parts : (i + 1) * len(group) // parts]


@dataclass(frozen=True)
class Estimate:
    """What is left to do: seconds on so many workers, with the bounds of an 80 % interval."""

    seconds: float
    low: float
    high: float
    workers: int
    measured: bool  # whether the store's own history went into it


def estimate(costs: Sequence[Cost], workers: int) -> Estimate:
    """Time for packs of these costs; errors are taken to go the same way for all of them."""

    def time(each: list[float]) -> float:
        return max(sum(each) / max(workers, 1), max(each, default=0.0))

    seconds, low, high = (time([getattr(cost, name) for cost in costs]) for name in ("seconds", "low", "high"))
    return Estimate(seconds, low, high, workers, any(cost.measured for cost in costs))
