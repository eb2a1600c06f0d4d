"""Jobs and ids: what is one job, what is another, and which parts fit together."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from lfombench.harness import PROTOCOLS, Job
from lfombench.harness.errors import SpecError
from lfombench.harness.spec.labels import label
from lfombench.solvers import ConjugateGradient, GradientDescent, LinearTransformer, Memformer
from lfombench.tasks import LinearRegression
from tests.builders import GOOD, TOKENS, parsed


@pytest.mark.parametrize(
    ("written", "as_well"),
    [("steps: 50", "steps:   50"), ("spectrum: [1, 0.5]", "spectrum: [1.0, 5e-1]"), ("[1, 0.5]", "[1e0, .5]")],
)
def test_equal_meanings_are_equal_jobs(tmp_path, written, as_well):
    assert [j.id for j in parsed(tmp_path, GOOD).jobs()] == [
        j.id for j in parsed(tmp_path, GOOD.replace(written, as_well)).jobs()
    ]


def test_an_id_depends_on_everything_that_decides_the_numbers():
    base = Job.of(
        task=LinearRegression(d=2, n=3), solver=ConjugateGradient(depth=2), protocol=PROTOCOLS["rigorous"], seed=0
    )
    others = [
        replace(base, seed=1),
        base.changed(solver=ConjugateGradient(depth=3)),
        base.changed(solver=GradientDescent(depth=2, step="per_layer")),
        base.changed(task=LinearRegression(d=2, n=4)),
        base.changed(task=LinearRegression(d=2, n=3, noise=0.1)),
        base.changed(protocol=replace(PROTOCOLS["rigorous"], steps=7)),
    ]
    assert len({job.id for job in [base, *others]}) == 7
    assert base.id == "65dfa56baec387eafff5"  # pinned: stores on disk depend on it


def test_labels_leave_depth_out():
    assert (
        label(Memformer(depth=3, memory="cgd", preconditioner="full")) == "memformer(memory=cgd, preconditioner=full)"
    )
    assert label(GradientDescent(depth=3, step="theory")) == "gradient_descent(step=theory)"
    assert label(GradientDescent(depth=3, step=0.25)) == "gradient_descent(step=0.25)"


def test_trials_are_learning_rates_times_what_is_tuned_of_what_a_solver_has():
    protocol = replace(
        PROTOCOLS["rigorous"], learning_rates=(0.1, 0.2), tune=(("beta1", (0.8,)), ("step", (0.3, 0.4, 0.5)))
    )
    [task] = [LinearRegression(d=2, n=3)]
    jobs = {
        solver: Job.of(task=task, solver=solver, protocol=protocol, seed=0)
        for solver in (
            ConjugateGradient(depth=1),
            GradientDescent(depth=1, step=0.1),
            LinearTransformer(depth=1, preconditioner="full"),
        )
    }
    classical, given, learned = jobs.values()
    assert classical.trials == ({},)
    assert given.trials == ({"step": 0.3}, {"step": 0.4}, {"step": 0.5})
    assert learned.trials == ({"learning_rate": 0.1, "beta1": 0.8}, {"learning_rate": 0.2, "beta1": 0.8})
    assert given.tried(1).solver.step == 0.4


def test_a_job_coerces_and_validates_its_parts():
    built = Job.of(
        task=LinearRegression(d=2, n=3), solver=ConjugateGradient(depth=2), protocol=PROTOCOLS["rigorous"], seed=0
    )
    loose = LinearRegression(d=2, n=3, spectrum=(1, 2))  # whole numbers where floats are meant
    made = Job.of(task=loose, solver=built.solver, protocol=built.protocol, seed=0)
    assert made.task.spectrum == (1.0, 2.0)
    assert all(type(x) is float for x in made.task.spectrum)
    with pytest.raises(SpecError, match="depth: got 0"):
        Job.of(task=built.task, solver=replace(built.solver, depth=0), protocol=built.protocol, seed=0)


def test_gates_per_token_are_not_tested_at_another_n(tmp_path):
    with pytest.raises(SpecError, match=r"line 6.*each of n = 20 examples.*n=40.*say skip: true"):
        parsed(tmp_path, TOKENS)


@pytest.mark.parametrize(
    ("task", "solver", "protocol", "says"),
    [
        ("logistic", "best_lfom: {preconditioner: identity, depth: 2}", "rigorous", "needs a quadratic risk"),
        ("logistic", "heavy_ball: {step: theory, momentum: 0.5, depth: 2}", "rigorous", "where the spectrum ends"),
        ("relu_teacher", "best_krylov: {preconditioner: identity, depth: 2}", "rigorous", "linear in x"),
        ("relu_teacher", "bayes: {depth: 2}", "rigorous", "teacher's covariance"),
        (
            "figure_1: {spectrum: [1, 1, 0, 0.25, 1], weights: isotropic}",
            "best_lfom: {preconditioner: covariance, depth: 2}",
            "rigorous",
            "needs Sigma^{-1}",
        ),
        ("sphere", "newton: {depth: 2}", "{use: rigorous, draw: statistics}", "draw: shortest does it"),
    ],
)
def test_a_task_that_lacks_what_is_needed_is_refused_with_the_reason(tmp_path, task, solver, protocol, says):
    text = f"name: made\nprotocol: {protocol}\ntasks:\n  - {task}\nsolvers:\n  - {solver}\n"
    with pytest.raises(SpecError, match=re.escape(says)):
        parsed(tmp_path, text)
