"""The peak of memory while a pack runs."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from pathlib import Path
from typing import ClassVar

import torch


class Peak:
    """By how many bytes the peak of memory rises from here on, of the device or else of this process.

    Packs that share a device in threads of one process have a like part of it each.
    """

    on: ClassVar[Counter[torch.device]] = Counter()  # packs that run now, by device
    counting: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self.before = torch.cuda.memory_allocated(device)
        else:
            with contextlib.suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5")  # the peak becomes the present size
            self.before = _size("VmRSS")

    def __enter__(self) -> Peak:
        self._count(1)
        return self

    def __exit__(self, *error: object) -> None:
        self._count(-1)

    def _count(self, change: int) -> None:
        with Peak.counting:
            Peak.on[self.device] += change

    def bytes(self) -> float | None:
        """The rise so far; None where the system does not tell."""
        if self.device.type == "cuda":
            return max(0.0, torch.cuda.max_memory_allocated(self.device) - self.before) / Peak.on[self.device]
        peak = _size("VmHWM")
        return float(max(peak - self.before, 0)) if peak else None


def _size(name: str) -> int:
    """A size of this process in bytes, as Linux tells; elsewhere 0."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(name):
                return 1024 * int(line.split()[1])
    return 0
