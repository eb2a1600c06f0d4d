"""Where two solvers change places, a sweep gets further tasks."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import pytest

from lfombench.harness import PROTOCOLS, Sweep
from lfombench.harness.spec.labels import label
from lfombench.harness.spec.refine import middle, refined
from lfombench.solvers import ConjugateGradient
from lfombench.tasks import LinearRegression, ReluNetwork
from tests.commands import lfombench

TASK = LinearRegression(d=2, n=20)


@pytest.mark.parametrize(
    ("low", "high", "between"),
    [
        ({"noise": 0.0}, {"noise": 1.0}, {"noise": 0.5}),
        ({"noise": 1.0}, {"noise": 16.0}, {"noise": 4.0}),
        ({"noise": 1.0}, {"noise": 1.5}, {"noise": 1.25}),
        ({"n": 10}, {"n": 40}, {"n": 20}),
        ({"n": 5}, {"n": 6}, None),
        ({"spectrum": (1.0, 0.25)}, {"spectrum": (1.0, 1.0)}, {"spectrum": (1.0, 0.5)}),
        ({"weights": "sparse", "support": 1.0}, {"weights": "sparse", "support": 2.0}, None),
        ({"spectrum": None}, {"spectrum": (1.0, 0.5)}, None),
        ({"rotation": "none"}, {"rotation": "per_seed"}, None),
        ({}, {}, None),
    ],
    ids=str,
)
def test_the_middle_of_two_tasks(low, high, between):
    found = middle(replace(TASK, **low), replace(TASK, **high))
    assert found == (None if between is None else replace(TASK, **between))


def test_kinds_of_tasks_have_no_middle():
    assert middle(TASK, ReluNetwork(d=2, n=30)) is None


def test_a_sweep_and_its_parts_get_the_middles_of_their_brackets():
    def part(name: str) -> Sweep:
        tasks = [replace(TASK, noise=x) for x in (0.0, 1.0)]
        return Sweep(name=name, tasks=tasks, solvers=[ConjugateGradient(depth=2)], protocols=[PROTOCOLS["published"]])

    whole = Sweep(name="whole", parts=[part("one"), part("two")])
    pair = tuple(label(task) for task in whole.parts[0].tasks)
    new = refined(whole, {"two": [pair], "three": [pair]})
    assert [len(one.tasks) for one in new.parts] == [2, 3]
    assert new.parts[1].tasks[-1].noise == 0.5
    assert refined(new, {"two": [pair]}) is None  # it has that one
    assert refined(whole, {"one": [("elsewhere", pair[1])]}) is None


FILE = """\
name: flip
protocol: {use: published, test_prompts: 4096}
seeds: 3
axis: task.noise
crossover: [fixed, krylov]
tasks: [linear_regression: {d: 3, n: 12, noise: {each: [0.0, 4.0]}}]
solvers:
  fixed: {gradient_descent: {step: 0.3, depth: 3}}
  krylov: {conjugate_gradient: {depth: 3}}
"""


def test_a_run_halves_the_stretch_three_times_and_a_second_one_has_nothing_left(tmp_path):
    path, out = tmp_path / "flip.yaml", str(tmp_path / "out")
    path.write_text(FILE)
    first = lfombench("run", str(path), "--out", out, "--workers", "0", "--mlflow", "off")
    assert first.returncode == 0, first.stderr
    assert "30 jobs in" in first.stdout  # two solvers, three seeds, two values and three between
    sql = "SELECT DISTINCT spec FROM jobs"
    rows = json.loads(lfombench("query", sql, "--out", out, "--format", "json").stdout)
    noise = sorted({json.loads(row["spec"])["task"]["linear_regression"]["noise"] for row in rows})
    assert len(noise) == 5
    assert min(b - a for a, b in pairwise(noise)) <= 0.5
    assert "fixed against krylov: better at" in first.stdout
    [found] = json.loads(lfombench("board", "--out", out, "--json").stdout)
    [duel] = found["along"]["duels"]
    assert [one["x"] for one in duel["values"]] == noise
    assert noise[0] < duel["crossings"][0]["at"] < noise[-1]
    assert len(found["along"]["points"]) == 10
    again = lfombench("run", str(path), "--out", out, "--workers", "0", "--mlflow", "off")
    assert again.returncode == 0
    assert "nothing to run" in again.stdout
