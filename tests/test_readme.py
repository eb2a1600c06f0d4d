"""What the README shows works as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import polars as pl
import torch

from lfombench.harness import load
from lfombench.harness.compiler.streams import Streams, keys
from tests.commands import lfombench

README = (Path(__file__).parents[1] / "README.md").read_text()


def block(language: str, containing: str) -> str:
    """The one code block of a language that contains a text."""
    [found] = [text for text in re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL) if containing in text]
    return found


def test_the_query_answers_its_question(finished):
    sql = block("sh", "lfombench query").split('"')[1].replace("step = 4 AND depth = 4", "step = depth")
    done = lfombench("query", sql, "--out", finished)
    assert done.returncode == 0, done.stderr
    assert "memformer(memory=cgd, preconditioner=full)" in done.stdout
    assert "typical_error" in done.stdout


def test_the_sweep_is_the_shipped_one(tmp_path):
    (tmp_path / "fig1.yaml").write_text(block("yaml", "name: fig1"))
    shown, shipped = load(str(tmp_path / "fig1.yaml")), load("fig1")
    assert [job.id for job in shown.jobs()] == [job.id for job in shipped.jobs()]


def test_the_sweep_in_python(tmp_path):
    (tmp_path / "short.py").write_text(block("python", "sweep = Sweep("))
    assert len(load(str(tmp_path / "short.py"))) == 9


def test_a_solver_and_a_task_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(
        block("python", "class HeavyBall")
        + block("python", "class LearnedMomentum")
        + block("python", "class UniformRegression")
    )
    entry = re.search(r"`- ('mine:HeavyBall': .*?)`", README)
    assert entry
    (tmp_path / "own.yaml").write_text(
        "name: own\nprotocol: {use: rigorous, steps: 5, test_prompts: 1000}\n"
        "tasks: ['mine:UniformRegression': {d: 3, n: 9}]\n"
        f"solvers:\n  - {entry[1]}\n  - memformer: {{memory: cgd, preconditioner: full, depth: 2}}\n"
        "  - 'mine:LearnedMomentum': {depth: 3}\n"
    )
    done = lfombench("run", "own.yaml", "--workers", "0", "--mlflow", "off")
    assert done.returncode == 0, done.stderr
    found = pl.read_parquet(tmp_path / "out" / "results" / "*.parquet")
    assert "mine:LearnedMomentum" in found["solver"].to_list()
    found = found.filter(solver="mine:HeavyBall").sort("step")
    assert np.all(np.diff(found["mse"]) < 0)


def test_the_task_has_the_covariance_it_states():
    scope = {"__name__": "shown"}
    exec(block("python", "class UniformRegression"), scope)
    task = scope["UniformRegression"](d=2, n=3)
    examples = task.examples(Streams(keys([("x",)], torch.device("cpu")), torch.float64), None, 50_000)
    covariance = torch.einsum("sip,sjp->ij", examples.query, examples.query) / 50_000
    root = examples.law.root[0, :, :, 0]
    assert torch.allclose(covariance, root @ root.T, atol=0.01)


def test_the_commands_are_there():
    for command in set(
        re.findall(r"lfombench ([a-z]+)", "\n".join(re.findall(r"`[^`]+`|```sh\n.*?```", README, re.DOTALL)))
    ):
        assert lfombench(command, "--help").returncode == 0, command


def test_its_speeds_are_the_measured_ones():
    measured = (Path(__file__).parents[1] / "benchmarks" / "results.md").read_text()
    claimed = README[README.index("## How fast") : README.index("## The code")]
    rows = [line for line in claimed.splitlines() if line.startswith("| ") and "ratio" not in line]
    assert len(rows) >= 5
    for row in rows:
        assert row in measured, row
