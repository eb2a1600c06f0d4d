"""Ends that come from outside: a terminal that is closed, a scheduler's signal to all processes at once."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from lfombench.analysis.results import table
from tests.commands import words
from tests.terminals import Terminal

LONG = """\
name: long
protocol: {use: rigorous, steps: 5000000, batch: 4096, learning_rates: [0.01], test_prompts: 64, plateau: null}
tasks: [linear_regression: {d: 5, n: 20}]
solvers: [memformer: {memory: cgd, preconditioner: full, depth: 4}]
"""


@pytest.fixture
def long(tmp_path):
    """A sweep of one job that trains for minutes."""
    path = tmp_path / "long.yaml"
    path.write_text(LONG)
    return path


def wait_for(what, seconds=120.0):
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def assert_ended_in_order(out: Path) -> None:
    """No lease is left, and what ran can go on."""
    assert not list((out / "drivers").glob("*.json"))
    assert list((out / "checkpoints").iterdir())


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_a_terminal_that_is_closed_ends_a_run_as_ctrl_c_does(tmp_path, long):
    """With Ray, whose processes have the same terminal; without it is the half of this."""
    out = tmp_path / "out"
    with Terminal(on_ray(long, out)) as terminal:
        wait_for(lambda: trains(out))
        terminal.close()
        assert terminal.process.wait(40) == 3, terminal.text
    assert_ended_in_order(out)


def on_ray(sweep: Path, out: Path) -> list[str]:
    """A run on Ray that keeps a checkpoint every second: of this deadline a twentieth."""
    return words("run", str(sweep), "--out", str(out), "--mlflow", "off", "--workers", "1", "--deadline", "20")


def trains(out: Path) -> bool:
    """Whether a pack has come so far that it has left a checkpoint."""
    return (out / "checkpoints").is_dir() and any((out / "checkpoints").iterdir())


def test_under_nohup_a_run_stays_when_its_terminal_goes(tmp_path, quick):
    out = tmp_path / "out"
    command = words("run", str(quick), "--out", str(out), "--mlflow", "off", "--workers", "0")
    with Terminal(["sh", "-c", 'exec nohup "$@" > /dev/null 2>&1', "sh", *command]) as terminal:
        wait_for(lambda: (out / "drivers").is_dir())
        terminal.close()
        assert terminal.process.wait(60) == 0
    assert table(str(out), "results").collect()["job"].n_unique() == 20


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_a_signal_to_all_processes_as_of_a_scheduler_leaves_what_can_go_on(tmp_path, long):
    """Slurm sends SIGTERM to every process of a job, Ray's too, and kills what is left half a minute later."""
    out = tmp_path / "out"
    process = subprocess.Popen(on_ray(long, out), start_new_session=True, stderr=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: trains(out))
        os.killpg(process.pid, signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 3, errors
    assert "Traceback" not in errors
    assert_ended_in_order(out)
