"""The peak of memory while a pack runs."""

from __future__ import annotations

import contextlib
from pathlib import Path

import torch


class Peak:
    """By how many bytes the peak of memory rises from here on, of the device or else of this process."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self.before = torch.cuda.memory_allocated(device)
        else:
            with contextlib.suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5")  # the peak becomes the present size
            self.before = _size("VmRSS")

    def bytes(self) -> float | None:
        """The rise so far; None where the system does not tell."""
        if self.device.type == "cuda":
            return float(torch.cuda.max_memory_allocated(self.device) - self.before)
        peak = _size("VmHWM")
        return float(max(peak - self.before, 0)) if peak else None


def _size(name: str) -> int:
    """A size of this process in bytes, as Linux tells; elsewhere 0."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(name):
                return 1024 * int(line.split()[1])
    return 0
