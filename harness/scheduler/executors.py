"""Where packs run: the executor's contract, and the executor of this process. `on_ray.py` has the one on Ray."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from typing import Protocol, runtime_checkable

from ..training.pack import WorkOrder
from .devices import here
from .faults import Event, run_pack
from .packing import PlannedPack


@runtime_checkable
class Executor(Protocol):
    """Runs packs, each under a key of the scheduler's."""

    @property
    def workers(self) -> Mapping[str, int]:
        """Workers that there are or soon will be, by the kind of their pool."""

    def fit(self, packs: Collection[PlannedPack]) -> None:
        """Prepare for these packs; called before the first of them starts."""

    def expect(self, waiting: Mapping[str, int]) -> None:
        """Know how many packs still wait, by the kind of their pool; called again and again."""

    def idle(self) -> dict[str, int]:
        """How many packs it can take now, by the kind of worker."""

    def start(self, key: int, order: WorkOrder, kind: str) -> None:
        """Run a pack on a worker of a kind."""

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

    def __init__(self) -> None:
        self.kind = here(0).kind
        self.workers = {self.kind: 1}
        self.running: tuple[int, Iterator[Event]] | None = None
        self.paused = False

    def fit(self, packs: Collection[PlannedPack]) -> None:
        """Nothing needs to be prepared."""

    def expect(self, waiting: Mapping[str, int]) -> None:
        """There is one worker, whatever waits."""

    def idle(self) -> dict[str, int]:
        """1 where nothing runs, else 0."""
        return {self.kind: 0 if self.running else 1}

    def start(self, key: int, order: WorkOrder, kind: str) -> None:
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
