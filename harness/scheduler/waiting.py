"""The packs that wait for a worker, by the pool that they were planned for; an idle worker helps other pools."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ..training.pack import Pack
from .packing import PlannedPack, width
from .pools import Pool


@dataclass
class Attempt:
    """A pack on its way to an outcome, and how often each kind of fault has hit it."""

    planned: PlannedPack
    tries: Counter[str] = field(default_factory=Counter)

    @property
    def pack(self) -> Pack:
        """The pack without its plan."""
        return self.planned.pack


class Waiting:
    """Attempts that wait, in an order of their own for each pool."""

    def __init__(self, attempts: Iterable[Attempt], pools: Sequence[Pool] = ()) -> None:
        self.pools = {pool.kind: pool for pool in pools}
        self.queues: dict[str, deque[Attempt]] = defaultdict(deque)
        self.seconds: dict[str, float] = defaultdict(float)  # of all packs that wait, by their pool
        for attempt in attempts:
            self._queue(attempt).append(attempt)

    def __bool__(self) -> bool:
        return any(self.queues.values())

    def __iter__(self) -> Iterator[Attempt]:
        for queue in self.queues.values():
            yield from queue

    def counts(self) -> dict[str, int]:
        """The number of packs that wait, by their pool."""
        return {kind: len(queue) for kind, queue in self.queues.items()}

    def first(self, *attempts: Attempt) -> None:
        """Put attempts before all others of their pool, in this order."""
        for attempt in reversed(attempts):
            self._queue(attempt).appendleft(attempt)

    def clear(self) -> None:
        """Let nothing wait any more."""
        self.queues.clear()
        self.seconds.clear()

    def change(self, change: Callable[[Attempt], Iterable[Attempt]]) -> None:
        """Put others in place of each attempt, as its halves or none."""
        attempts = [new for attempt in self for new in change(attempt)]
        self.clear()
        for attempt in attempts:
            self._queue(attempt).append(attempt)

    def take(self, kind: str, workers: Callable[[], Mapping[str, int]]) -> Attempt | None:
        """The next attempt for a worker of a pool: of its own, or else what it can do of another's before that is
        through; None where there is nothing. workers: says the number of each pool's.
        """
        for name in (kind, ""):
            if self.queues[name]:
                return self._pop(name)
        others = [name for name, queue in self.queues.items() if queue]
        if not others:
            return None
        there = workers()
        end = {name: self.seconds[name] / there[name] if there.get(name) else float("inf") for name in others}
        slowest = max(others, key=end.__getitem__)
        return self._part(slowest, kind, end[slowest])

    def _part(self, name: str, kind: str, seconds: float) -> Attempt | None:
        """What a worker of a kind can do within some seconds of another pool's next pack; the rest goes on waiting."""
        attempt, pool = self.queues[name][0], self.pools.get(kind)
        if pool is None:
            return self._pop(name)
        jobs, tests = attempt.pack.jobs, len(attempt.pack.tests)
        cost = pool.history.correct(jobs[0], tests)[0]
        many = int(min((seconds - cost.fixed) / cost.each, width(jobs, tests, pool)))
        if many < 1 and seconds < float("inf"):
            return None
        self._pop(name)
        if many < len(jobs):
            self.first(Attempt(attempt.planned.for_jobs(jobs[max(1, many) :]), attempt.tries.copy()))
        return Attempt(attempt.planned.for_jobs(jobs[: max(1, many)]).on(pool), attempt.tries)

    def _pop(self, name: str) -> Attempt:
        attempt = self.queues[name].popleft()
        self.seconds[name] -= attempt.planned.seconds
        return attempt

    def _queue(self, attempt: Attempt) -> deque[Attempt]:
        """Where an attempt is to wait, which counts it."""
        self.seconds[attempt.planned.pool] += attempt.planned.seconds
        return self.queues[attempt.planned.pool]
