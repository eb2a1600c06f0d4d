"""What control groups leave this process, as containers and Slurm have them: CPUs and memory, of a larger machine."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path

ROOT, OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
UNKNOWN = 2 << 30  # bytes, where a system does not tell


def cpus() -> float:
    """CPUs at most; infinity where nothing limits them."""
    least = math.inf
    for text in _read("cpu", "cpu.max"):
        quota, _, period = text.partition(" ")
        if quota != "max":
            least = min(least, int(quota) / int(period))
    for quota, period in zip(_read("cpu", "cpu.cfs_quota_us"), _read("cpu", "cpu.cfs_period_us"), strict=False):
        if int(quota) > 0:
            least = min(least, int(quota) / int(period))
    return least


def free_memory() -> float:
    """Bytes of memory that this machine has to give, as control groups limit it."""
    try:
        return min(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), memory())
    except (ValueError, OSError):
        return float(UNKNOWN)


def memory() -> float:
    """Bytes of memory that are left; infinity where nothing limits them."""
    least = math.inf
    for limit, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
        for most, now in zip(_read("memory", limit), _read("memory", used), strict=False):
            if most != "max":
                least = min(least, max(0, int(most) - int(now)))
    return least


def _read(controller: str, name: str) -> Iterator[str]:
    """A file of this process's groups and of all groups around it, of either version of control groups."""
    with contextlib.suppress(OSError):
        for line in OWN.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and controller not in controllers.split(","):
                continue
            top = ROOT / controller if controllers else ROOT
            group = top / path.lstrip("/")
            for folder in (group, *group.parents):
                with contextlib.suppress(OSError):
                    yield (folder / name).read_text().strip()
                if folder == top:
                    break
