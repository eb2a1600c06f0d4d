"""Whole runs: in process and on a real Ray; extended, interrupted, and with jobs that break."""

from __future__ import annotations

import signal
import subprocess
import time
from dataclasses import dataclass, replace

import polars as pl
import pytest
import torch

from lfombench.analysis.report import render
from lfombench.analysis.results import leaves, sweeps, table
from lfombench.harness import PROTOCOLS, Sweep, load, run
from lfombench.harness.driver.observer import Silent
from lfombench.harness.driver.plan import make_plan
from lfombench.harness.errors import UserError
from lfombench.harness.store.store import Store
from lfombench.harness.training import execute, train
from lfombench.solvers import BestLfom, ConjugateGradient, GradientDescent, LinearTransformer, Memformer
from lfombench.tasks import LinearRegression
from tests.builders import SMALL
from tests.commands import lfombench, words

QUICK = replace(PROTOCOLS["rigorous"], steps=2, batch=4, learning_rates=(0.1,), test_prompts=64)


def results(out: str) -> pl.DataFrame:
    return table(out, "results").drop("blocks").collect().sort("job", "test", "step")


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_ray_and_this_process_give_the_same_numbers(head, small, finished, tmp_path):
    out = str(tmp_path / "out")
    done = lfombench("run", str(small), "--address", head.address, "--out", out, "--mlflow", "off")
    assert done.returncode == 0, done.stderr
    there, here = results(out), results(finished)
    assert there.select("job", "test", "step").equals(here.select("job", "test", "step"))
    assert (there["log_mse"] - here["log_mse"]).abs().max() < 1e-9


def test_a_pack_that_runs_out_of_memory_is_halved_and_so_are_those_like_it(monkeypatch, tmp_path):
    """A device that holds no more than three jobs: all are done, and the next plan knows."""
    ran: list[int] = []

    stages = execute.stages

    def small(order, device):
        ran.append(len(order.jobs))
        if len(order.jobs) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return (yield from stages(order, device))

    monkeypatch.setattr(execute, "stages", small)
    sweep = Sweep(
        name="wide",
        tasks=[LinearRegression(d=2, n=3)],
        solvers=[ConjugateGradient(depth=1)],
        protocols=[QUICK],
        seeds=range(12),
    )
    summary = run(sweep, str(tmp_path), workers=0, mlflow="off")
    assert (summary.exit_code, summary.ran, summary.failed) == (0, 12, [])
    assert ran == [12, 6, 3, 3, 3, 3]
    again = make_plan(replace(sweep, seeds=range(12, 24)), Store(str(tmp_path)))
    assert [len(planned.pack.jobs) for planned in again.packs] == [3] * 4


def test_running_again_computes_nothing(finished, tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    before = results(finished)
    summary = run(load(str(path)), finished, workers=0, mlflow="off")
    assert (summary.ran, summary.done, summary.exit_code) == (0, 20, 0)
    assert results(finished).equals(before)


def test_an_extended_sweep_runs_only_the_difference(tmp_path):
    def sweep(**changes):
        parts = {
            "name": "grown",
            "tasks": [LinearRegression(d=2, n=3)],
            "solvers": [ConjugateGradient(depth=2)],
            "protocols": [QUICK],
            "seeds": range(2),
        }
        return Sweep(**(parts | changes))

    out = str(tmp_path / "out")
    assert run(sweep(), out, workers=0, mlflow="off").ran == 2
    assert run(sweep(seeds=range(5)), out, workers=0, mlflow="off").ran == 3
    more = sweep(
        seeds=range(5), solvers=[ConjugateGradient(depth=2), LinearTransformer(depth=1, preconditioner="full")]
    )
    assert run(more, out, workers=0, mlflow="off").ran == 5
    assert run(sweep(name="another", seeds=range(6)), out, workers=0, mlflow="off").ran == 1
    shifted = sweep(seeds=range(5), tests=[LinearRegression(d=2, n=8)])
    before = results(out)
    assert run(shifted, out, workers=0, mlflow="off").done == 5
    after = results(out)
    assert len(after) == len(before) + 5 * 3
    assert after["test"].n_unique() == 2
    assert after.filter(pl.col("test").str.contains("n=3")).equals(before)


def test_a_further_test_trains_nothing(tmp_path, monkeypatch):
    """It is run from the weights that the store has, to the same bits as if it had been asked for at once."""
    task, shifted = LinearRegression(d=2, n=3), LinearRegression(d=2, n=9)
    solvers = [
        LinearTransformer(depth=1, preconditioner="full"),
        GradientDescent(depth=2, step=0.3),
        BestLfom(depth=2, preconditioner="identity"),
        ConjugateGradient(depth=1),
    ]
    tuned = replace(QUICK, learning_rates=(0.1, 0.3), tune=(("step", (0.1, 0.2)),), validation_prompts=32)
    plain = Sweep(name="plain", tasks=[task], solvers=solvers, protocols=[QUICK, tuned], seeds=range(2))
    more = replace(plain, tests=[shifted, task])
    jobs = len(plain)
    out, at_once = str(tmp_path / "out"), str(tmp_path / "at_once")
    assert run(more, at_once, workers=0, mlflow="off").done == jobs
    assert run(plain, out, workers=0, mlflow="off").done == jobs
    kept = {name: table(out, name).collect() for name in ("jobs", "curves", "weights")}
    monkeypatch.setattr(train, "train", None)
    monkeypatch.setattr(train, "untrained", None)
    summary = run(more, out, workers=0, mlflow="off")
    assert (summary.done, summary.ran, summary.exit_code) == (jobs, jobs, 0)
    assert results(out).equals(results(at_once))
    assert len(results(out)) == len(results(out).unique(["job", "test", "step"]))
    for name, rows in kept.items():
        assert table(out, name).collect().equals(rows)
    assert run(more, out, workers=0, mlflow="off").ran == 0


@dataclass(frozen=True, kw_only=True)
class Breaks(LinearTransformer):
    """Raises for one value of a float, which is data: so the pack holds good jobs and one bad."""

    poison: float = 0.0

    def init(self, d, n, normal):
        if torch.as_tensor(self.poison).any():
            raise ZeroDivisionError("as ordered")
        return super().init(d, n, normal)

    def iterates(self, params, problem):
        if torch.as_tensor(self.poison).any():
            raise ZeroDivisionError("as ordered")
        yield from super().iterates(params, problem)


def test_a_job_that_raises_is_found_and_its_neighbours_finish(tmp_path):
    solvers = [Breaks(depth=1, preconditioner="full", poison=poison) for poison in (0.0, 1.0)]
    sweep = Sweep(
        name="poisoned", tasks=[LinearRegression(d=2, n=3)], solvers=solvers, protocols=[QUICK], seeds=range(4)
    )
    out = str(tmp_path / "out")
    summary = run(sweep, out, workers=0, mlflow="off")
    assert summary.exit_code == 3
    assert (summary.done, len(summary.failed)) == (4, 4)
    jobs = table(out, "jobs").collect()
    bad = jobs.filter(pl.col("status") == "failed")
    assert bad["solver"].str.contains("poison=1").all()
    assert bad["reason"].str.contains("ZeroDivisionError: as ordered").all()
    assert bad["reason"].str.contains("Traceback").all()
    again = run(sweep, out, workers=0, mlflow="off")
    assert (again.done, len(again.failed), again.ran) == (4, 4, 0)


def test_a_diverged_job_is_an_outcome_and_is_not_tried_again(tmp_path):
    wild = replace(QUICK, steps=30, learning_rates=(1e15,))
    sweep = Sweep(
        name="wild",
        tasks=[LinearRegression(d=2, n=3)],
        solvers=[LinearTransformer(depth=4, preconditioner="full")],
        protocols=[wild],
    )
    out = str(tmp_path / "out")
    first, second = (run(sweep, out, workers=0, mlflow="off") for _ in range(2))
    assert (first.ran, second.ran) == (1, 0)
    assert (first.diverged, first.exit_code, second.exit_code) == (1, 3, 3)
    assert "not finite" in results(out)["reason"][0]


def test_stopping_keeps_what_is_committed(tmp_path, small):
    """Ctrl-C after the third pack; the same command goes on from there."""

    class Stop(Silent):
        packs = 0

        def committed(self, progress):
            self.packs += 1
            if self.packs == 3:
                raise KeyboardInterrupt

    out = str(tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        run(load(str(small)), out, workers=0, mlflow="off", observer=Stop())
    assert 0 < results(out)["job"].n_unique() < 20
    summary = run(load(str(small)), out, workers=0, mlflow="off")
    assert summary.exit_code == 0
    assert 0 < summary.ran < 20
    assert len(results(out)) == len(results(out).unique(["job", "test", "step"]))


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
@pytest.mark.parametrize(("how", "workers"), [(signal.SIGINT, 0), (signal.SIGTERM, 1), (signal.SIGKILL, 0)])
def test_a_stopped_command_is_continued_by_the_same_command(tmp_path, small, how, workers):
    """A real process, with and without Ray, stopped at a random instant after its first results; gone on without."""
    small.write_text(small.read_text().replace("steps: 20, batch: 50", "steps: 250, batch: 400"))
    out = tmp_path / "out"
    command = ["run", str(small), "--out", str(out), "--mlflow", "off", "--workers"]
    process = subprocess.Popen(words(*command, str(workers)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list(out.glob("results/*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(how)
    _, errors = process.communicate(timeout=60)
    if how != signal.SIGKILL:
        assert process.returncode == 3, errors
        assert "the same command goes on from there" in errors, errors
        assert "Traceback" not in errors, errors
    assert results(str(out))["job"].n_unique() < 20
    again = lfombench(*command, "0")
    assert again.returncode == 0, again.stderr
    rows = results(str(out))
    assert rows["job"].n_unique() == 20
    assert len(rows) == len(rows.unique(["job", "test", "step"]))
    assert not list(out.rglob(".writing-*"))


def test_an_address_where_nothing_listens_fails_soon(tmp_path, small):
    begin = time.monotonic()
    with pytest.raises(UserError, match=r"--address 127\.0\.0\.1:1: nothing listens there"):
        run(load(str(small)), str(tmp_path / "out"), address="127.0.0.1:1", mlflow="off")
    assert time.monotonic() - begin < 30
    with pytest.raises(UserError, match="must be host:port"):
        run(load(str(small)), str(tmp_path / "out"), address="nowhere", mlflow="off")


def test_what_is_skipped_is_a_row_with_its_reason_and_no_failure(tmp_path):
    """A sweep that says skip: its possible jobs run, the rest is in the jobs table and on the report."""
    task = LinearRegression(d=3, n=6)
    sweep = Sweep(
        name="partly",
        tasks=[task],
        tests=[replace(task, n=9)],
        solvers=[
            ConjugateGradient(depth=1),
            Memformer(depth=1, memory="lfom", preconditioner="full", gate="token"),
        ],
        protocols=[QUICK],
        skip=True,
    )
    summary = run(sweep, str(tmp_path), workers=0, mlflow="off")
    assert (summary.jobs, summary.done, summary.exit_code) == (1, 1, 0)
    rows = [row for row in table(str(tmp_path), "jobs").collect().to_dicts() if row["status"] == "skipped"]
    assert [(row["solver"], row["depth"]) for row in rows] == [
        ("memformer(memory=lfom, preconditioner=full, gate=token)", 1)
    ]
    assert "each of n = 6 examples" in rows[0]["reason"]
    assert "1 combination skipped" in render(str(tmp_path), sweeps(str(tmp_path)))


def test_parts_run_once_and_each_has_its_boards(tmp_path):
    """Two sweeps that share a job: it runs once, and stands on the boards of both."""
    task = LinearRegression(d=3, n=6)
    one = Sweep(name="one", tasks=[task], solvers=[ConjugateGradient(depth=1)], protocols=[QUICK])
    two = replace(one, name="two", solvers=[ConjugateGradient(depth=1), ConjugateGradient(depth=2)])
    whole = Sweep(name="whole", parts=[one, two])
    assert run(whole, str(tmp_path), workers=0, mlflow="off").ran == 2
    assert run(one, str(tmp_path), workers=0, mlflow="off").ran == 0
    named = leaves(str(tmp_path), sweeps(str(tmp_path), "whole"))
    assert [(sweep.name, len(sweep.jobs)) for sweep in named] == [("one", 1), ("two", 2)]
    html = render(str(tmp_path), sweeps(str(tmp_path), "whole"))
    assert "<h1>one</h1>" in html
    assert "<h1>two</h1>" in html
