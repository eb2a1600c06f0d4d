"""Where packs run: the executor's contract, and the executor of this process. `on_ray.py` has the one on Ray."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from typing import Protocol, runtime_checkable

from ..training.pack import Pack, WorkOrder
from .faults import Event, run_pack


@runtime_checkable
class Executor(Protocol):
    """Runs packs, each under a key of the scheduler's."""

    workers: int

    def fit(self, packs: Collection[Pack]) -> None:
        """Prepare for these packs; called before the first of them starts."""

    def idle(self) -> int:
        """Number of packs that it can take now."""

    def start(self, key: int, order: WorkOrder) -> None:
        """Run a pack."""

    def poll(self, seconds: float) -> list[tuple[int, Event]]:
        """The events since the last call, by key; waits up to so many seconds for one."""

    def kill(self, key: int) -> None:
        """End a pack at once; it gives no more events."""

    def pause(self) -> None:
        """Ask all packs to stop where they can go on."""

    def close(self) -> None:
        """Let go of the workers."""


class InProcess:
    """Runs one pack after the other, in this process."""

    workers = 1

    def __init__(self) -> None:
        self.running: tuple[int, Iterator[Event]] | None = None
        self.paused = False

    def fit(self, packs: Collection[Pack]) -> None:
        """Nothing needs to be prepared."""

    def idle(self) -> int:
        """1 where nothing runs, else 0."""
        return 0 if self.running else 1

    def start(self, key: int, order: WorkOrder) -> None:
        """Begin a pack, which runs while it is polled."""
        self.running = key, run_pack(order, lambda: self.paused)

    def poll(self, seconds: float) -> list[tuple[int, Event]]:
        """Run the pack until its next event."""
        if not self.running:
            time.sleep(seconds)
            return []
        key, events = self.running
        for event in events:
            return [(key, event)]
        self.running = None
        return []

    def kill(self, key: int) -> None:
        """A pack in this process cannot be ended; it is forgotten."""
        self.running = None

    def pause(self) -> None:
        """The pack that runs notices between its steps."""
        self.paused = True

    def close(self) -> None:
        """There is no worker to let go of."""
