"""Packs to outcomes, whatever befalls their workers: retries, splits, deadlines, second copies of stragglers."""

from __future__ import annotations

import heapq
import itertools
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol

from ..training.checkpoint import Checkpoint
from ..training.execute import Outcome, failure
from ..training.pack import Cost, Pack
from .executors import Executor
from .faults import POLICY, Event, Fault
from .progress import Progress
from .sharing import Shares

PATIENCE = 10.0  # times a pack's expected time (the upper bound of 80 %) that it may take,
LEAST = 60.0  # seconds, at least
UNKNOWN = 600.0  # seconds, where nothing was measured on its device yet
STRAGGLER = 2.0  # times the upper bound after which an idle worker starts a pack again,
SOON = 10.0  # seconds, at least
POLL = 0.5  # seconds between looks at whether to stop


class Desk(Protocol):
    """What a scheduler asks of whoever keeps the record."""

    def ready(self, pack: Pack) -> Pack:
        """A pack as it is sent to a worker: with the weights or the checkpoint that it goes on from."""

    def keep(self, pack: Pack, checkpoint: Checkpoint) -> None:
        """A pack is so far."""

    def too_wide(self, pack: Pack) -> None:
        """A pack ran out of memory."""


@dataclass(frozen=True)
class Limits:
    """What ends a pack, or the run: seconds that a pack may take, by default from its expected time; failed jobs that
    are put up with; whether to stop, asked all the time.
    """

    deadline: float | None = None
    failures: int | None = None
    stop: Callable[[], bool] = lambda: False
    progress: Progress | None = None  # told how many packs run, and whether the end has been called for
    shares: Shares | None = None  # asked which jobs are still this driver's, where others work on the store too


@dataclass
class Task:
    """A pack on its way to an outcome."""

    pack: Pack
    tries: Counter[str] = field(default_factory=Counter)


@dataclass
class Running:
    """A pack on a worker."""

    task: Task
    since: float
    deadline: float
    twin: int | None = None  # the key under which it runs a second time


def outcomes(
    packs: Iterable[Pack], executor: Executor, desk: Desk, limits: Limits | None = None
) -> Iterator[tuple[Pack, Outcome]]:
    """Every pack's outcome, as they come; those of a split pack by its parts. Ends early where a limit says so: packs
    that run then stop where they can go on.
    """
    return _Schedule(packs, executor, desk, limits or Limits()).run()


class _Schedule:
    def __init__(self, packs: Iterable[Pack], executor: Executor, desk: Desk, limits: Limits) -> None:
        self.waiting = deque(Task(pack) for pack in packs)
        self.later: list[tuple[float, int, Task]] = []  # tasks that are tried again, and when
        self.running: dict[int, Running] = {}
        self.executor, self.desk, self.limits = executor, desk, limits
        self.number = itertools.count()
        self.failed = 0
        self.stopping = False

    def run(self) -> Iterator[tuple[Pack, Outcome]]:
        self.executor.fit([task.pack for task in self.waiting])
        while self.waiting or self.later or self.running:
            if self.limits.stop() and not self.stopping:
                self._stop()
            self._start()
            self._tell()
            for key, event in itertools.chain(self.executor.poll(POLL), self._overdue()):
                if key in self.running:  # else its twin was first
                    yield from self._take(key, event)

    def _tell(self) -> None:
        if self.limits.progress:
            self.limits.progress.in_flight, self.limits.progress.stopping = len(self.running), self.stopping
        if shares := self.limits.shares:
            if shares.update():
                self._give_up(shares)
            shares.running([one.task.pack for one in self.running.values()])
            shares.settled()

    def _give_up(self, shares: Shares) -> None:
        """Jobs that wait and are another driver's now."""
        for tasks in (self.waiting, [task for _, _, task in self.later]):
            for task in tasks:
                task.pack = replace(task.pack, jobs=tuple(job for job in task.pack.jobs if shares.mine(job.id)))
        self.waiting = deque(task for task in self.waiting if task.pack.jobs)
        self.later = [one for one in self.later if one[2].pack.jobs]
        heapq.heapify(self.later)

    def _start(self) -> None:
        now = time.monotonic()
        while self.later and self.later[0][0] <= now:
            self.waiting.appendleft(heapq.heappop(self.later)[2])
        while self.waiting and self.executor.idle():
            self._send(self.waiting.popleft())
        if not self.stopping and not self.waiting and not self.later and self.executor.idle():
            for key, one in [*self.running.items()]:
                expected = one.task.pack.expected
                late = expected and now - one.since > max(SOON, STRAGGLER * expected.high)
                if late and one.twin is None and self.executor.idle():
                    one.twin = self._send(one.task, twin=key)

    def _send(self, task: Task, twin: int | None = None) -> int:
        key, now = next(self.number), time.monotonic()
        self.running[key] = Running(task, now, now + self._seconds(task.pack), twin)
        self.executor.start(key, self.desk.ready(task.pack))
        return key

    def _seconds(self, pack: Pack) -> float:
        if self.limits.deadline is not None:
            return self.limits.deadline
        if pack.expected and pack.expected.measured:
            return max(LEAST, PATIENCE * pack.expected.high)
        return UNKNOWN

    def _overdue(self) -> Iterator[tuple[int, Fault]]:
        now = time.monotonic()
        for key, one in [*self.running.items()]:
            if now > one.deadline:
                self.executor.kill(key)
                yield key, Fault("deadline", f"not done after {one.deadline - one.since:.0f} seconds")

    def _take(self, key: int, event: Event) -> Iterator[tuple[Pack, Outcome]]:
        one = self.running[key]
        pack = one.task.pack
        if isinstance(event, Checkpoint):
            self.desk.keep(pack, event)
            one.deadline = time.monotonic() + self._seconds(pack)  # it lives
            return
        del self.running[key]
        twin = one.twin if one.twin in self.running else None
        if isinstance(event, Outcome):
            if twin is not None:
                del self.running[twin]
                self.executor.kill(twin)
            yield pack, event
        elif isinstance(event, Fault) and twin is None:  # else its twin may fare better
            yield from self._again(one.task, event)

    def _again(self, task: Task, fault: Fault) -> Iterator[tuple[Pack, Outcome]]:
        """Try a pack again, or its halves; or give up on the one job that it is."""
        pack, policy = task.pack, POLICY[fault.kind]
        task.tries[fault.kind] += 1
        tried = task.tries[fault.kind]
        if fault.kind == "memory" and len(pack.jobs) > 1:
            self.desk.too_wide(pack)
            self._narrow(pack)
        if tried < (policy.together if len(pack.jobs) > 1 else policy.alone):
            ready = time.monotonic() + policy.backoff * 2.0 ** (tried - 1)
            if not self.stopping:
                heapq.heappush(self.later, (ready, next(self.number), task))
        elif len(pack.jobs) > 1:
            if not self.stopping:
                self.waiting.extendleft(Task(half) for half in reversed(halves(pack)))
        else:
            self.failed += 1
            yield pack, failure(pack, f"{fault.reason}\nTried {tried} times." if tried > 1 else fault.reason)
            if self.limits.failures is not None and self.failed > self.limits.failures:
                self._stop()

    def _narrow(self, pack: Pack) -> None:
        """Packs that wait are halved like one of their structure."""
        for task in [*self.waiting]:
            if task.pack.first.structure == pack.first.structure and len(task.pack.jobs) > 1:
                self.waiting.remove(task)
                self.waiting.extend(Task(half) for half in halves(task.pack))

    def _stop(self) -> None:
        """Start nothing more, and let what runs stop where it can go on."""
        self.stopping = True
        self.waiting.clear()
        self.later.clear()
        self.executor.pause()


def halves(pack: Pack) -> list[Pack]:
    """Two packs of half the jobs each."""
    half = len(pack.jobs) // 2
    parts = pack.jobs[:half], pack.jobs[half:]
    return [replace(pack, jobs=part, expected=_scaled(pack, len(part))) for part in parts]


def _scaled(pack: Pack, jobs: int) -> Cost | None:
    """What a part of a pack should cost."""
    share = jobs / len(pack.jobs)
    was = pack.expected
    return was and replace(was, seconds=was.seconds * share, low=was.low * share, high=was.high * share)
