"""The part of a machine that control groups leave: of either version, the least of all groups around."""

from __future__ import annotations

import math

import pytest

from lfombench.harness.scheduler import devices, limits


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """A system of control groups: set(own, files)."""
    monkeypatch.setattr(limits, "ROOT", tmp_path / "cgroup")
    monkeypatch.setattr(limits, "OWN", tmp_path / "own")

    def set_up(own: str, files: dict[str, str]) -> None:
        (tmp_path / "own").write_text(own)
        for name, text in files.items():
            path = tmp_path / "cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n")

    return set_up


SECOND = {
    "a/cpu.max": "150000 100000",
    "a/b/cpu.max": "max 100000",
    "a/memory.max": "1000",
    "a/memory.current": "400",
    "a/b/memory.max": "max",
    "a/b/memory.current": "300",
}
FIRST = {
    "cpu/x/cpu.cfs_quota_us": "50000",
    "cpu/x/cpu.cfs_period_us": "100000",
    "cpu/cpu.cfs_quota_us": "-1",
    "cpu/cpu.cfs_period_us": "100000",
    "memory/y/memory.limit_in_bytes": "9223372036854771712",
    "memory/y/memory.usage_in_bytes": "5",
    "memory/memory.limit_in_bytes": "2000",
    "memory/memory.usage_in_bytes": "2500",
}


@pytest.mark.parametrize(
    ("own", "files", "cpus", "memory"),
    [
        ("0::/a/b\n", SECOND, 1.5, 600),
        ("0::/\n", {"cpu.max": "max 100000"}, math.inf, math.inf),
        ("3:cpu,cpuacct:/x\n2:memory:/y\n1:name=systemd:/z\n", FIRST, 0.5, 0),
        ("3:cpuset:/x\n", FIRST, math.inf, math.inf),
        ("0::/gone\n", {"memory.max": "70", "memory.current": "20"}, math.inf, 50),
    ],
)
def test_the_least_of_all_groups_around(groups, own, files, cpus, memory):
    groups(own, files)
    assert (limits.cpus(), limits.memory()) == (cpus, memory)


def test_where_there_are_none_nothing_is_limited(groups):
    assert (limits.cpus(), limits.memory()) == (math.inf, math.inf)


def test_workers_and_packs_keep_to_them(groups, monkeypatch):
    monkeypatch.setattr(devices, "gpus", lambda: ())
    free = limits.free_memory()
    groups("0::/\n", {"cpu.max": "50000 100000", "memory.max": "900", "memory.current": "100"})
    assert devices.cores() == 1
    assert limits.free_memory() == 800 < free
