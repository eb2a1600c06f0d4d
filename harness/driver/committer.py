"""A thread that commits: all packs that are waiting in one step, and merges files where there is nothing to commit."""

from __future__ import annotations

import contextlib
import math
import queue
import time
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

from ..scheduler.packing import PlannedPack
from ..spans import Span, span
from ..store import maintenance
from ..store.outcome import Outcome
from ..store.store import Store

Item = tuple[PlannedPack, Outcome]

WAITING = 64  # packs at most: what finishes faster than it can be written has to wait
ROWS = 1 << 18  # of results in a commit, about
GATHER = 0.5  # seconds from commit to commit: what comes faster waits for company


class Committer:
    """Commits outcomes to a store, off the critical path; its errors are raised by the next call."""

    def __init__(self, store: Store, gather: float = GATHER) -> None:
        self.store, self.gather = store, gather
        self.waiting: queue.Queue[Item | None] = queue.Queue(WAITING)
        self.ready: queue.SimpleQueue[Item] = queue.SimpleQueue()
        self.received = self.written = 0  # packs: each counted by one thread
        self.spans: list[Span] = []  # of commits
        self.pool = ThreadPoolExecutor(1, "committer")

    def __enter__(self) -> Committer:
        self.work = self.pool.submit(self._work)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Commit what is left, and merge files."""
        self._put(None)
        self.pool.shutdown()
        if kind is None:
            self.work.result()

    def put(self, planned: PlannedPack, outcome: Outcome) -> None:
        """Commit an outcome, soon."""
        self.received += 1
        self._put((planned, outcome))
        if self.work.done():
            self.work.result()

    def flush(self) -> None:
        """Wait until everything that was put is committed."""
        while self.written < self.received and not self.work.done():
            time.sleep(0.01)

    def committed(self) -> list[Item]:
        """What was committed since the last call."""
        items = []
        while not self.ready.empty():
            items.append(self.ready.get())
        return items

    def _put(self, item: Item | None) -> None:
        while not self.work.done():
            with contextlib.suppress(queue.Full):
                return self.waiting.put(item, timeout=0.1)

    def _work(self) -> None:
        more, last = True, -math.inf
        while more:
            batch, more = self._batch(last)
            last = time.monotonic()
            if batch:
                with span("commit", self.spans):
                    self.store.commit([outcome for _, outcome in batch])
                for item in batch:
                    self.ready.put(item)
                self.written += len(batch)
            maintenance.compact(self.store)
        while maintenance.compact(self.store, 2):
            pass

    def _batch(self, last: float) -> tuple[list[Item], bool]:
        """What is committed next, and whether more may come. last: the time of the last commit."""
        batch: list[Item] = []
        rows = 0
        while not batch or rows < ROWS:
            try:
                left = max(0.0, last + self.gather - time.monotonic())
                item = self.waiting.get(timeout=left if batch else None)
            except queue.Empty:
                break
            if item is None:
                return batch, False
            batch.append(item)
            rows += item[1].rows
        return batch, True
