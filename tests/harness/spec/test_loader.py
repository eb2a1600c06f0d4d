"""Sweeps from files: grids, names, parts."""

from __future__ import annotations

import pytest

from lfombench.harness import load
from lfombench.harness.errors import SpecError
from lfombench.harness.spec.labels import label
from tests.builders import GOOD, parsed


def test_a_sweep_is_the_product_of_its_parts(tmp_path):
    sweep = parsed(tmp_path, GOOD)
    jobs = list(sweep.jobs())
    assert len(jobs) == len(sweep) == 2 * (1 + 4)
    assert len({job.id for job in jobs}) == 10
    assert [label(s) for s in sweep.solvers[:2]] == [
        "conjugate_gradient",
        "memformer(memory=cgd, preconditioner=scalar)",
    ]
    assert label(sweep.tasks[0]) == "linear_regression(d=2, n=3, spectrum=[1, 0.5])"
    assert label(sweep.protocols[0]) == "rigorous(steps=50)"


def test_fig1_is_the_papers_figure():
    sweep = load("fig1")
    assert len(sweep) == 2 * 32 * 5
    assert {p.use for p in sweep.protocols} == {"published", "rigorous"}


def test_yaml_and_python_name_the_same_jobs(tmp_path):
    path = tmp_path / "sweep.py"
    path.write_text(
        "from dataclasses import replace\n"
        "from lfombench.harness import PROTOCOLS, Sweep\n"
        "from lfombench.solvers import ConjugateGradient, Memformer\n"
        "from lfombench.tasks import LinearRegression\n"
        "sweep = Sweep(name='good', protocols=[replace(PROTOCOLS['rigorous'], steps=50)], seeds=range(2),\n"
        "    tasks=[LinearRegression(d=2, n=3, spectrum=(1.0, 0.5))],\n"
        "    solvers=[ConjugateGradient(depth=4), *(Memformer(memory='cgd', preconditioner=p, depth=L)\n"
        "        for p in ('scalar', 'full') for L in (1, 2))])\n"
    )
    assert [job.id for job in load(str(path)).jobs()] == [job.id for job in parsed(tmp_path, GOOD).jobs()]


def test_no_such_sweep():
    with pytest.raises(SpecError, match=r"no sweep 'figg1'.*did you mean 'fig1'\?"):
        load("figg1")


def test_a_name_from_the_catalogue_is_its_task(tmp_path):
    given = GOOD.replace("linear_regression: {d: 2, n: 3, spectrum: [1, 0.5]}", "figure_1: {n: {each: [10, 20]}}")
    tasks = parsed(tmp_path, given).tasks
    assert [label(task) for task in tasks] == [
        f"linear_regression(d=5, n={n}, spectrum=[1, 1, 0.5, 0.25, 1])" for n in (10, 20)
    ]


PARTS = """\
name: both
protocol: {use: rigorous, steps: 50}
seeds: 2
parts:
  - tasks: [figure_1]
    solvers: [conjugate_gradient: {depth: 2}]
  - tasks: [figure_1, isotropic]
    solvers: [conjugate_gradient: {depth: 2}]
    protocol: [published, {use: rigorous, steps: 50}]
"""


def test_parts_are_a_union_in_which_a_job_stands_once(tmp_path):
    sweep = parsed(tmp_path, PARTS)
    jobs = list(sweep.jobs())
    assert len(jobs) == len(sweep) == len({job.id for job in jobs}) == 2 * 2 * 2
    assert [part.name for part in sweep.parts] == ["both", "both"]


def test_a_part_may_be_another_sweep_and_tests_are_united(tmp_path):
    (tmp_path / "more.yaml").write_text(GOOD.replace("seeds: 2", "seeds: 2\ntests: [linear_regression: {d: 2, n: 9}]"))
    (tmp_path / "good.yaml").write_text(GOOD.replace("name: good", "name: same"))
    text = f"name: union\nparts: [{tmp_path}/more.yaml, {tmp_path}/good.yaml, fig1]\n"
    sweep = parsed(tmp_path, text)
    assert len(sweep) == 10 + 320
    assert [len(tests) for _, tests in sweep.entries()][:10] == [1] * 10


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("    solvers: [conjugate_gradient: {depth: 2}]\n  - tasks", "  - tasks"), "line 5.*'solvers' is missing"),
        (("name: both", "name: both\naxis: task.n\ntests: []"), ""),
        (("  - tasks: [figure_1]\n", "  - fig9\n  - tasks: [figure_1]\n"), "line 5.*no sweep 'fig9'"),
        (("  - tasks: [figure_1]\n", "  - 3\n  - tasks: [figure_1]\n"), "line 5.*must be a sweep's name"),
        (("    solvers: [conj", "    abuot: x\n    solvers: [conj"), "unknown key 'abuot'"),
    ],
)
def test_bad_parts(tmp_path, change, says):
    old, new = change
    text = PARTS.replace(old, new, 1)
    if says:
        with pytest.raises(SpecError, match=says):
            parsed(tmp_path, text)
    else:
        assert parsed(tmp_path, text).parts[0].axis == "task.n"


NAMED = """\
name: named
protocol: {use: rigorous, steps: 50}
axis: task.noise
parts:
  - name: one
    tasks: [figure_1: {noise: {each: [0.0, 0.5]}}]
    solvers:
      fixed: {gradient_descent: {step: {each: [0.1, 0.2]}, depth: {each: [1, 2]}}}
      krylov: {conjugate_gradient: {depth: 2}}
    crossover: [fixed, krylov]
  - name: two
    about: also this
    tasks: [isotropic]
    solvers: [conjugate_gradient: {depth: 2}]
  - name: one
    tasks: [isotropic]
    solvers: [conjugate_gradient: {depth: 2}]
"""


def test_parts_and_solvers_with_names(tmp_path):
    """Parts of one name are one sweep; a name of a solver stands for labels, whatever their depth."""
    sweep = parsed(tmp_path, NAMED)
    assert [part.name for part in sweep.parts] == ["one", "two"]
    assert [len(part) for part in sweep.parts] == [2 * 5 + 1, 1]
    [grid, _] = sweep.parts[0].parts
    assert grid.named == {
        "fixed": ["gradient_descent(step=0.1)", "gradient_descent(step=0.2)"],
        "krylov": ["conjugate_gradient"],
    }
    assert (grid.axis, list(grid.crossover), sweep.parts[1].about) == ("task.noise", ["fixed", "krylov"], "also this")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("[fixed, krylov]", "[fixed, krilov]"), "line 10, .*no solver is named 'krilov'.*did you mean 'krylov'"),
        (("krylov: {conj", "newton: {conj"), "line 9, .*a mapping of other names"),
        (("name: two", "name: /two"), "line 11, .*name: got '/two'"),
        (("krylov: {conjugate_gradient: {depth: 2}}", "krylov: 3"), "line 9, .*got 3, must be one solver"),
    ],
)
def test_bad_names(tmp_path, change, says):
    with pytest.raises(SpecError, match=says):
        parsed(tmp_path, NAMED.replace(*change))
