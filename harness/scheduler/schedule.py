"""From packs to outcomes, whatever happens to workers: retries, splits, deadlines, second copies of stragglers."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from ..awake import Awake
from ..store.outcome import Outcome
from ..training.checkpoint import Checkpoint
from ..training.execute import failure
from ..training.pack import Pack, WorkOrder
from .executors import Executor
from .faults import POLICY, Event, Fault
from .packing import PlannedPack
from .progress import Progress
from .sharing import Shares

PATIENCE = 10.0  # times a pack's expected time (the upper bound of 80 %) that it may take,
LEAST = 60.0  # seconds, at least
UNKNOWN = 600.0  # seconds, where nothing was measured on its device yet
STRAGGLER = 2.0  # times the upper bound after which an idle worker starts a pack again,
SOON = 10.0  # seconds, at least
POLL = 0.5  # seconds between two checks of whether to stop


@runtime_checkable
class Recorder(Protocol):
    """What a scheduler asks of whoever keeps the record."""

    def order(self, pack: PlannedPack) -> WorkOrder:
        """A pack as it is sent to a worker: with the weights or the checkpoint that it goes on from."""

    def keep(self, pack: Pack, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint of a pack that runs."""

    def ran_out_of_memory(self, pack: Pack) -> None:
        """Remember that a pack was too wide for the memory here."""


@dataclass(frozen=True)
class Limits:
    """What ends a pack, or the run."""

    deadline: float | None = None  # seconds without a sign of life that a pack may take; None: by its expected time
    failures: int | None = None  # failed jobs that do not stop the run; None: any number
    stop: Callable[[], bool] = lambda: False  # asked again and again: whether to stop


@dataclass
class Attempt:
    """A pack on its way to an outcome, and how often each kind of fault has hit it."""

    planned: PlannedPack
    tries: Counter[str] = field(default_factory=Counter)

    @property
    def pack(self) -> Pack:
        """The pack without its plan."""
        return self.planned.pack


@dataclass
class Running:
    """A pack on a worker."""

    attempt: Attempt
    since: float
    deadline: float
    twin: int | None = None  # the key under which it runs a second time


def outcomes(
    packs: Iterable[PlannedPack],
    executor: Executor,
    recorder: Recorder,
    limits: Limits | None = None,
    progress: Progress | None = None,
    shares: Shares | None = None,
) -> Iterator[tuple[PlannedPack, Outcome]]:
    """The outcome of every pack as they come; those of a split pack by its parts. Ends early where a limit says so:
    packs that run then stop where they can go on.

    progress: told how many packs run, and whether the run is stopping. shares: asked which jobs are still this
    driver's, where others work on the store too.
    """
    return _Schedule(packs, executor, recorder, limits or Limits(), progress, shares).run()


class _Schedule:
    def __init__(
        self,
        packs: Iterable[PlannedPack],
        executor: Executor,
        recorder: Recorder,
        limits: Limits,
        progress: Progress | None,
        shares: Shares | None,
    ) -> None:
        self.waiting = deque(Attempt(pack) for pack in packs)
        self.later: list[tuple[float, int, Attempt]] = []  # attempts that are due again, and when
        self.running: dict[int, Running] = {}
        self.executor, self.recorder, self.limits = executor, recorder, limits
        self.progress, self.shares = progress, shares
        self.number = itertools.count()
        self.clock = Awake(2 * POLL)
        self.failed = 0
        self.stopping = False

    def run(self) -> Iterator[tuple[PlannedPack, Outcome]]:
        self.executor.fit([attempt.pack for attempt in self.waiting])
        while self.waiting or self.later or self.running:
            if self.limits.stop() and not self.stopping:
                self._stop()
            self._start()
            self._report()
            for key, event in itertools.chain(self.executor.poll(POLL), self._overdue()):
                if key in self.running:  # else its twin was first
                    yield from self._take(key, event)

    def _report(self) -> None:
        """Tell the progress and the other drivers what runs here."""
        if self.progress:
            self.progress.in_flight, self.progress.stopping = len(self.running), self.stopping
        if self.shares:
            if self.shares.update():
                self._give_up(self.shares)
            self.shares.announce([one.attempt.pack for one in self.running.values()])
            self.shares.acknowledge()

    def _give_up(self, shares: Shares) -> None:
        """Drop the jobs that wait here and are another driver's now."""
        for attempts in (self.waiting, [attempt for _, _, attempt in self.later]):
            for attempt in attempts:
                attempt.planned = attempt.planned.for_jobs([job for job in attempt.pack.jobs if shares.owns(job.id)])
        self.waiting = deque(attempt for attempt in self.waiting if attempt.pack.jobs)
        self.later = [entry for entry in self.later if entry[2].pack.jobs]
        heapq.heapify(self.later)

    def _start(self) -> None:
        """Send packs to idle workers: those that wait, then second copies of stragglers."""
        now = self.clock()
        while self.later and self.later[0][0] <= now:
            self.waiting.appendleft(heapq.heappop(self.later)[2])
        while self.waiting and self.executor.idle():
            self._send(self.waiting.popleft())
        if not self.stopping and not self.waiting and not self.later and self.executor.idle():
            for key, one in [*self.running.items()]:
                cost = one.attempt.planned.cost
                late = cost and now - one.since > max(SOON, STRAGGLER * cost.high)
                if late and one.twin is None and self.executor.idle():
                    one.twin = self._send(one.attempt, twin=key)

    def _send(self, attempt: Attempt, twin: int | None = None) -> int:
        key, now = next(self.number), self.clock()
        self.running[key] = Running(attempt, now, now + self._patience(attempt.planned), twin)
        self.executor.start(key, self.recorder.order(attempt.planned))
        return key

    def _patience(self, planned: PlannedPack) -> float:
        """Seconds without a sign of life until a pack is cancelled."""
        if self.limits.deadline is not None:
            return self.limits.deadline
        if planned.cost and planned.cost.measured:
            return max(LEAST, PATIENCE * planned.cost.high)
        return UNKNOWN

    def _overdue(self) -> Iterator[tuple[int, Fault]]:
        now = self.clock()
        for key, one in [*self.running.items()]:
            if now > one.deadline:
                self.executor.kill(key)
                yield key, Fault("deadline", f"not done after {one.deadline - one.since:.0f} seconds")

    def _take(self, key: int, event: Event) -> Iterator[tuple[PlannedPack, Outcome]]:
        """Act on what a worker tells of its pack."""
        one = self.running[key]
        if isinstance(event, Checkpoint):
            self.recorder.keep(one.attempt.pack, event)
            one.deadline = self.clock() + self._patience(one.attempt.planned)  # a sign of life
            return
        del self.running[key]
        twin = one.twin if one.twin in self.running else None
        if isinstance(event, Outcome):
            if twin is not None:
                del self.running[twin]
                self.executor.kill(twin)
            yield one.attempt.planned, event
        elif isinstance(event, Fault) and twin is None:  # else its twin may fare better
            yield from self._retry(one.attempt, event)

    def _retry(self, attempt: Attempt, fault: Fault) -> Iterator[tuple[PlannedPack, Outcome]]:
        """Try a pack again, or its halves; or give up on the one job that it is."""
        planned, pack, policy = attempt.planned, attempt.pack, POLICY[fault.kind]
        attempt.tries[fault.kind] += 1
        tries = attempt.tries[fault.kind]
        if fault.kind == "memory" and len(pack.jobs) > 1:
            self.recorder.ran_out_of_memory(pack)
            self._narrow(pack)
        if tries < (policy.together if len(pack.jobs) > 1 else policy.alone):
            due = self.clock() + policy.backoff * 2.0 ** (tries - 1)
            if not self.stopping:
                heapq.heappush(self.later, (due, next(self.number), attempt))
        elif len(pack.jobs) > 1:
            if not self.stopping:
                self.waiting.extendleft(Attempt(half) for half in reversed(planned.halves()))
        else:
            self.failed += 1
            reason = f"{fault.reason}\nTried {tries} times." if tries > 1 else fault.reason
            yield planned, failure(pack, planned.cost, reason)
            if self.limits.failures is not None and self.failed > self.limits.failures:
                self._stop()

    def _narrow(self, pack: Pack) -> None:
        """Halve the packs that wait and have the structure of one that ran out of memory."""
        for attempt in [*self.waiting]:
            if attempt.pack.first.structure == pack.first.structure and len(attempt.pack.jobs) > 1:
                self.waiting.remove(attempt)
                self.waiting.extend(Attempt(half) for half in attempt.planned.halves())

    def _stop(self) -> None:
        """Start nothing more, and let what runs stop where it can go on."""
        self.stopping = True
        self.waiting.clear()
        self.later.clear()
        self.executor.pause()
