"""A real cluster on this machine: a head with its dashboard, a sweep submitted, followed, listed and stopped."""

from __future__ import annotations

import time
from pathlib import Path

import polars as pl
import pytest

from tests.commands import lfombench

pytestmark = [
    *(pytest.mark.slow, pytest.mark.xdist_group("ray")),
    pytest.mark.filterwarnings("ignore:ssl=None is deprecated:DeprecationWarning"),  # Ray's, of its own connections
]


def jobs_done(out: Path) -> int:
    return pl.read_parquet(out / "results" / "*.parquet")["job"].n_unique()


def test_a_sweep_is_submitted_stopped_and_continued_by_submitting_it_again(head, tmp_path):
    """With a solver of one's own, sent along, that waits until it may go on, beside what could be taken for others."""
    out, go = tmp_path / "out", tmp_path / "go"
    (tmp_path / "code").mkdir()
    for trap in ("torch.py", "polars.py", "tasks.py"):
        (tmp_path / "code" / trap).write_text(f"raise SystemExit('{trap} was imported')\n")
    (tmp_path / "code" / "patient.py").write_text(
        "import dataclasses, pathlib, time\n"
        "from lfombench.solvers import ConjugateGradient\n"
        "@dataclasses.dataclass(frozen=True, kw_only=True)\n"
        "class Patient(ConjugateGradient):\n"
        "    def iterates(self, params, problem):\n"
        f"        while not pathlib.Path({str(go)!r}).exists():\n"
        "            time.sleep(0.1)\n"
        "        yield from super().iterates(params, problem)\n"
    )
    sweep = tmp_path / "patience.yaml"
    sweep.write_text(
        "name: patience\nseeds: 2\n"
        "protocol: {use: rigorous, test_prompts: 256}\n"
        "tasks: [linear_regression: {d: 3, n: 8}]\n"
        "solvers: [conjugate_gradient: {depth: 2}, 'patient:Patient': {depth: {each: [1, 2]}}]\n"
    )
    there = ["--address", head.dashboard]
    arguments = ["submit", str(sweep), *there, "--out", str(out), "--mlflow", "off", "--code", str(tmp_path / "code")]
    started = lfombench(*arguments, "--no-wait")
    assert started.returncode == 0, started.stderr
    name = started.stdout.split("submitted ")[1].split(";")[0]
    deadline = time.monotonic() + 120
    while not list(out.glob("results/*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.1)
    stopped = lfombench("stop", name, *there)
    assert stopped.returncode == 0, stopped.stderr
    followed = lfombench("logs", name, *there, "--follow")
    assert followed.returncode == 0
    assert "6 jobs, 0 done, 6 to run" in followed.stdout
    assert jobs_done(out) == 2, followed.stdout
    go.touch()
    again = lfombench(*arguments)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "6 jobs, 2 done, 4 to run" in again.stdout
    assert "4/4 jobs" in again.stdout
    assert "succeeded" in again.stdout
    assert jobs_done(out) == 6
    name = again.stdout.split("submitted ")[1].split(";")[0]
    assert "4/4 jobs" in lfombench("logs", name, *there).stdout
    unknown = lfombench("stop", "nothing", *there)
    assert unknown.returncode == 1
    assert "no job 'nothing'" in unknown.stderr
    assert name in unknown.stderr
