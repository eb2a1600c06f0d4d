"""A thread that commits: all packs that are waiting in one step, and merges files where there is nothing to commit."""

from __future__ import annotations

import contextlib
import math
import queue
import time
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

from ..spans import span
from ..store import maintenance
from ..store.store import Store
from ..training.execute import Outcome
from ..training.pack import Pack

Item = tuple[Pack, Outcome]

WAITING = 64  # packs at most: what finishes faster than it can be written has to wait
ROWS = 1 << 18  # of results in a commit, about
GATHER = 0.5  # seconds from commit to commit: what comes faster waits for company


class Writer:
    """Commits outcomes to a store, off the critical path; what went wrong comes up with the next one."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.waiting: queue.Queue[Item | None] = queue.Queue(WAITING)
        self.committed: queue.SimpleQueue[Item] = queue.SimpleQueue()
        self.given = self.written = 0  # packs: each counted by one thread
        self.pool = ThreadPoolExecutor(1, "writer")

    def __enter__(self) -> Writer:
        self.work = self.pool.submit(self._work)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Commit what is left; merge files."""
        self._put(None)
        self.pool.shutdown()
        if kind is None:
            self.work.result()

    def put(self, pack: Pack, outcome: Outcome) -> None:
        """Commit this, soon."""
        self.given += 1
        self._put((pack, outcome))
        if self.work.done():
            self.work.result()

    def _put(self, one: Item | None) -> None:
        while not self.work.done():
            with contextlib.suppress(queue.Full):
                return self.waiting.put(one, timeout=0.1)

    def flush(self) -> None:
        """Wait until what was put is committed."""
        while self.written < self.given and not self.work.done():
            time.sleep(0.01)

    def done(self) -> list[Item]:
        """What was committed since this was last asked."""
        found = []
        while not self.committed.empty():
            found.append(self.committed.get())
        return found

    def _work(self) -> None:
        more, last = True, -math.inf
        while more:
            batch: list[Item] = []
            rows = 0
            while not batch or rows < ROWS:
                try:
                    left = max(0.0, last + GATHER - time.monotonic())
                    one = self.waiting.get(timeout=left if batch else None)
                except queue.Empty:
                    break
                if one is None:
                    more = False
                    break
                batch.append(one)
                rows += one[1].rows
            last = time.monotonic()
            if batch:
                with span("commit"):
                    self.store.commit([outcome for _, outcome in batch])
                for pair in batch:
                    self.committed.put(pair)
                self.written += len(batch)
            maintenance.compact(self.store)
        while maintenance.compact(self.store, 2):
            pass
