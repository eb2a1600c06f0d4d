"""The doctor finds what is in the way, and errors that nobody expected blame no one wrongly."""

from __future__ import annotations

import json
import os
import sqlite3

import pytest

from lfombench.harness.driver.doctor import findings, store
from lfombench.harness.unexpected import explained, is_ours
from tests.commands import lfombench, words
from tests.machine import NOBODY, elsewhere, mounts_needed, users_needed


def test_a_healthy_machine_has_a_line_for_each_check(tmp_path):
    done = lfombench("doctor", "--without-ray", "--out", str(tmp_path / "out"))
    assert done.stdout.count("\n") >= 13
    assert "BAD" not in done.stdout, done.stdout
    assert done.returncode == 0
    told = json.loads(lfombench("doctor", "--without-ray", "--json").stdout)
    assert {one["verdict"] for one in told} <= {"ok", "look"}
    assert not (tmp_path / "out").exists()


def test_what_a_doctor_that_was_killed_left_in_a_store_is_no_finding(tmp_path):
    """Its own file was there already: `two writers make one file`."""
    (tmp_path / ".lfombench-doctor").write_bytes(b"1")
    assert store(str(tmp_path)).verdict == "ok"
    assert os.listdir(tmp_path) == [".lfombench-doctor"]


@users_needed()
@mounts_needed()
def test_what_is_wrong_is_found_with_a_remedy():
    """Little temporary and shared memory, few files, no home, a hidden /proc, no compiler, an odd terminal."""
    done = elsewhere(
        ["prlimit", "--nofile=256", *words("doctor", "--without-ray", "--json")],
        mounts=[
            "mount -t tmpfs -o size=8m,noexec,mode=1777 tmpfs /tmp",
            "mount -t tmpfs -o size=64m,mode=1777 tmpfs /dev/shm",
            "mount -t proc -o hidepid=2 proc /proc",
        ],
        user=NOBODY,
        environment={"PATH": "/usr/bin:/bin", "CXX": "none", "PYTHONIOENCODING": "ascii"},
        cwd="/",
    )
    found = {one["check"]: one for one in json.loads(done.stdout)}
    wrong = {name for name, one in found.items() if one["verdict"] != "ok"}
    assert {"temporary folder", "shared memory", "open files", "processes", "terminal", "compiled programs"} <= wrong
    assert all(found[name]["remedy"] for name in wrong), found
    assert done.returncode == 1


def test_a_check_that_fails_is_a_finding(monkeypatch):
    monkeypatch.setattr(os, "sysconf", lambda name: 1 / 0)
    [memory] = [one for one in findings(start_ray=False) if one.check == "memory"]
    assert (memory.verdict, memory.found) == ("bad", "ZeroDivisionError: division by zero")


@pytest.mark.parametrize(
    ("error", "said", "ours"),
    [
        (PermissionError(13, "Permission denied", "/tmp/ray"), "this machine refused something", False),
        (OSError(28, "No space left on device"), "this machine refused something", False),
        (sqlite3.OperationalError("database is locked"), "this machine refused something", False),
        (MemoryError(), "out of memory", False),
        (RuntimeError("CUDA error: out of memory"), "out of memory", False),
        (RuntimeError("can't start new thread"), "no more threads", False),
        (ImportError("libgomp.so.1: cannot open shared object file"), "missing or broken", False),
        (KeyError("x"), "looks like a fault of lfombench", True),
        (RuntimeError("x"), "looks like a fault of lfombench", True),
    ],
)
def test_only_what_can_be_nothing_else_is_a_fault_of_ours(error, said, ours):
    text = explained(error)
    assert said in text
    assert is_ours(error) == ("fault of lfombench" in text) == ours
    assert ("lfombench doctor" in text) != ours
    assert ("torch 2." in text) == ours  # versions, for the report
