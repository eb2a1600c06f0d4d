"""From packs to outcomes, whatever happens to workers: retries, splits, deadlines, second copies of stragglers."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ..awake import Awake
from ..store.outcome import Outcome
from ..training.checkpoint import Checkpoint
from ..training.execute import failure
from ..training.pack import Pack, WorkOrder
from .devices import device_name
from .executors import Executor
from .faults import POLICY, Event, Fault
from .packing import PlannedPack
from .pools import Pool
from .progress import Progress
from .sharing import Shares
from .waiting import Attempt, Waiting

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

    def ran_out_of_memory(self, pack: Pack, device: str) -> None:
        """Remember that a pack was too wide for the memory of a device."""


@dataclass(frozen=True)
class Limits:
    """What ends a pack, or the run."""

    deadline: float | None = None  # seconds without a sign of life that a pack may take; None: by its expected time
    failures: int | None = None  # failed jobs that do not stop the run; None: any number
    stop: Callable[[], bool] = lambda: False  # asked again and again: whether to stop


@dataclass
class Running:
    """A pack on a worker."""

    attempt: Attempt
    kind: str  # of the worker
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
    pools: Sequence[Pool] = (),
) -> Iterator[tuple[PlannedPack, Outcome]]:
    """The outcome of every pack as they come; those of a split pack by its parts. Ends early where a limit says so:
    packs that run then stop where they can go on.

    progress: told how many packs run, and whether the run is stopping. shares: asked which jobs are still this
    driver's, where others work on the store too. pools: what packs cost where; without, a worker without packs of its
    own takes any.
    """
    waiting = Waiting(map(Attempt, packs), pools)
    return _Schedule(waiting, executor, recorder, limits or Limits(), progress, shares).run()


class _Schedule:
    def __init__(
        self,
        waiting: Waiting,
        executor: Executor,
        recorder: Recorder,
        limits: Limits,
        progress: Progress | None,
        shares: Shares | None,
    ) -> None:
        self.waiting = waiting
        self.later: list[tuple[float, int, Attempt]] = []  # attempts that are due again, and when
        self.running: dict[int, Running] = {}
        self.executor, self.recorder, self.limits = executor, recorder, limits
        self.progress, self.shares = progress, shares
        self.number = itertools.count()
        self.clock = Awake(2 * POLL)
        self.failed = 0
        self.stopping = False
        self.due = 0.0  # when to tell other drivers what runs here
        self.checked = 0.0  # when packs were last compared with their deadlines

    def run(self) -> Iterator[tuple[PlannedPack, Outcome]]:
        self.executor.fit([attempt.planned for attempt in self.waiting])
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
        if self.shares and self.clock() >= self.due:
            self.due = self.clock() + POLL
            if self.shares.update():
                self._give_up(self.shares)
            self.shares.announce([one.attempt.pack for one in self.running.values()])
            self.shares.acknowledge()

    def _give_up(self, shares: Shares) -> None:
        """Drop the jobs that wait here and are another driver's now."""

        def own(attempt: Attempt) -> list[Attempt]:
            jobs = [job for job in attempt.pack.jobs if shares.owns(job.id)]
            attempt.planned = attempt.planned.for_jobs(jobs)
            return [attempt] if jobs else []

        self.waiting.change(own)
        self.later = [entry for entry in self.later if own(entry[2])]
        heapq.heapify(self.later)

    def _start(self) -> None:
        """Send packs to idle workers: those that wait, then second copies of stragglers."""
        now = self.clock()
        while self.later and self.later[0][0] <= now:
            self.waiting.first(heapq.heappop(self.later)[2])
        self.executor.expect(self.waiting.counts())
        idle = self.executor.idle()
        for kind in idle:
            while idle[kind] and (attempt := self.waiting.take(kind, lambda: self.executor.workers)):
                self._send(attempt, kind)
                idle[kind] -= 1
        if not self.stopping and not self.waiting and not self.later and any(idle.values()):
            for key, one in [*self.running.items()]:
                cost = one.attempt.planned.cost
                late = cost and now - one.since > max(SOON, STRAGGLER * cost.high)
                if late and one.twin is None and idle.get(one.kind):
                    one.twin = self._send(one.attempt, one.kind, twin=key)
                    idle[one.kind] -= 1

    def _send(self, attempt: Attempt, kind: str, twin: int | None = None) -> int:
        key, now = next(self.number), self.clock()
        self.running[key] = Running(attempt, kind, now, now + self._patience(attempt.planned), twin)
        self.executor.start(key, self.recorder.order(attempt.planned), kind)
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
        if now < self.checked + POLL:
            return
        self.checked = now
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
        elif twin is None:  # else its twin may fare better
            if isinstance(event, Fault):
                yield from self._retry(one.attempt, event, one.kind)
            elif not self.stopping:  # its worker was asked to stop it
                self.waiting.first(one.attempt)

    def _retry(self, attempt: Attempt, fault: Fault, kind: str) -> Iterator[tuple[PlannedPack, Outcome]]:
        """Try a pack again, or its halves; or give up on the one job that it is. kind: of the worker."""
        planned, pack, policy = attempt.planned, attempt.pack, POLICY[fault.kind]
        attempt.tries[fault.kind] += 1
        tries = attempt.tries[fault.kind]
        if fault.kind == "memory" and len(pack.jobs) > 1:
            self.recorder.ran_out_of_memory(pack, self._device(kind))
            self._narrow(attempt)
        if tries < (policy.together if len(pack.jobs) > 1 else policy.alone):
            due = self.clock() + policy.backoff * 2.0 ** (tries - 1)
            if not self.stopping:
                heapq.heappush(self.later, (due, next(self.number), attempt))
        elif len(pack.jobs) > 1:
            if not self.stopping:
                self.waiting.first(*map(Attempt, planned.halves()))
        else:
            self.failed += 1
            reason = f"{fault.reason}\nTried {tries} times." if tries > 1 else fault.reason
            yield planned, failure(pack, planned.cost, reason)
            if self.limits.failures is not None and self.failed > self.limits.failures:
                self._stop()

    def _device(self, kind: str) -> str:
        """The device of workers of a kind."""
        pool = self.waiting.pools.get(kind)
        return pool.device if pool else device_name()

    def _narrow(self, tried: Attempt) -> None:
        """Halve the packs that wait for the same pool and have the structure of one that ran out of memory."""
        structure, pool = tried.pack.first.structure, tried.planned.pool

        def narrow(attempt: Attempt) -> list[Attempt]:
            same = attempt.pack.first.structure == structure and attempt.planned.pool == pool
            halved = same and len(attempt.pack.jobs) > 1
            return [Attempt(half) for half in attempt.planned.halves()] if halved else [attempt]

        self.waiting.change(narrow)

    def _stop(self) -> None:
        """Start nothing more, and let what runs stop where it can go on."""
        self.stopping = True
        self.waiting.clear()
        self.later.clear()
        self.executor.pause()
