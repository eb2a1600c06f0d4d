"""The executor of this machine's GPUs: threads of this process, several to a GPU."""

from __future__ import annotations

import contextlib
import logging
import queue
import sys
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence

import torch

from ..training.pack import WorkOrder
from .devices import THREADS
from .faults import Event, Fault, run_pack
from .packing import PlannedPack

log = logging.getLogger("lfombench")

CPU = torch.device("cpu")
PATIENCE = 10.0  # seconds until a thread that does not end is left behind
TURN = 2e-4  # seconds that a thread may keep Python while others wait; see OnGpus


class OnGpus:
    """Runs several packs on each device. A GPU runs their kernels side by side; Python prepares one at a time.

    While it is open threads take shorter turns: each of PyTorch's operations gives Python away, and beside a thread
    that is busy in Python would get it back only after a turn of 5 ms, a thousand times what it takes itself.
    """

    def __init__(self, devices: Sequence[torch.device], each: int = THREADS) -> None:
        self.free = [device for _ in range(each) for device in devices]
        self.all, self.workers = {*devices}, {"gpu": len(self.free)}
        self.places: dict[int, torch.device] = {}  # by pack
        self.events: queue.Queue[tuple[int, Event | torch.device]] = queue.Queue()  # an event, or a place that is free
        self.threads: list[threading.Thread] = []
        self.ended: set[int] = set()
        self.lost: set[torch.device] = set()
        self.paused = False
        self.usual = sys.getswitchinterval()
        sys.setswitchinterval(TURN)

    def fit(self, packs: Collection[PlannedPack]) -> None:
        """Nothing needs to be prepared."""

    def expect(self, waiting: Mapping[str, int]) -> None:
        """There are so many workers, whatever waits."""

    def idle(self) -> dict[str, int]:
        """Number of packs that the devices can take now."""
        return {"gpu": len(self.free)}

    def start(self, key: int, order: WorkOrder, kind: str) -> None:
        """Begin a pack, in a thread of its own."""
        device = self.places[key] = self.free.pop(0)
        thread = threading.Thread(target=self._run, args=(key, order, device), name=f"{device} pack {key}", daemon=True)
        self.threads = [*(other for other in self.threads if other.is_alive()), thread]
        thread.start()

    def poll(self, seconds: float) -> list[tuple[int, Event]]:
        """The events since the last call, by key; waits up to so many seconds for one."""
        events: list[tuple[int, Event]] = []
        with contextlib.suppress(queue.Empty):
            events += self._taken(seconds)
            while True:
                events += self._taken(0.0)
        return events

    def kill(self, key: int) -> None:
        """Forget a pack. It goes on until it can stop, as what a GPU has begun it ends."""
        self.ended.add(key)

    def pause(self) -> None:
        """The packs that run notice between their launches."""
        self.paused = True

    def close(self) -> None:
        """Wait until the packs have stopped, for some time: a thread that hangs ends with the process."""
        self.paused = True
        for thread in self.threads:
            thread.join(PATIENCE)
        sys.setswitchinterval(self.usual)

    def _taken(self, seconds: float) -> list[tuple[int, Event]]:
        """The next event, if it is one; raises queue.Empty where none comes in time."""
        key, event = self.events.get(timeout=seconds) if seconds > 0 else self.events.get_nowait()
        if isinstance(event, torch.device):
            self.free += [event] if event not in self.lost else []
            return []
        if isinstance(event, Fault) and event.kind == "device":
            self._lose(self.places[key], event.reason)
        return [] if key in self.ended else [(key, event)]

    def _lose(self, device: torch.device, reason: str) -> None:
        """Use a device no more, which nothing in this process can; where it was the last, go on on the CPU."""
        if device in self.lost:
            return
        self.lost.add(device)
        self.free = [other for other in self.free if other != device]
        last = not self.all - self.lost
        self.free += [CPU] if last else []
        log.warning(
            "%s is used no more: %s; what ran there is tried again on %s",
            *(device, reason.strip().splitlines()[-1], "the CPU" if last else "others"),
        )

    def _run(self, key: int, order: WorkOrder, device: torch.device) -> None:
        try:
            with _stream(device):
                for event in run_pack(order, lambda: self.paused or key in self.ended, device):
                    self.events.put((key, event))
        finally:
            self.events.put((key, device))


@contextlib.contextmanager
def _stream(device: torch.device) -> Iterator[None]:
    """A stream of the thread's own, where the device has streams."""
    if device.type != "cuda":
        yield
        return
    with torch.cuda.device(device), torch.cuda.stream(torch.cuda.Stream(device)):
        yield
