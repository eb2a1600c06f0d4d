"""Predictions for prompts that are given, against NumPy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from lfombench.harness import PROTOCOLS, Job
from lfombench.harness.errors import UserError
from lfombench.harness.training.execute import execute
from lfombench.harness.training.pack import Pack, WorkOrder
from lfombench.harness.training.predict import _drawn, example, predictions
from lfombench.solvers import BestKrylov, ConjugateGradient, GradientDescent, LinearTransformer, Memformer
from lfombench.tasks import LinearRegression, LogisticRegression
from tests.builders import QUICK

TASK = LinearRegression(d=3, n=6)


def job(solver, task=TASK) -> Job:
    return Job.of(task=task, solver=solver, protocol=QUICK, seed=1)


@pytest.fixture
def prompts():
    random = np.random.default_rng(0)
    X, w = random.normal(size=(4, 6, 3)), random.normal(size=(4, 3))
    return X, np.einsum("pnd,pd->pn", X, w), random.normal(size=(4, 3)), w


def predicted(one: Job, prompts, params=None) -> np.ndarray:
    X, y, query, _ = (torch.as_tensor(x) for x in prompts)
    return predictions(one, params or {}, X, y, query).numpy()


def test_conjugate_gradients_answer_exactly_after_d_steps(prompts):
    found = predicted(job(ConjugateGradient(depth=3)), prompts)
    _, _, query, w = prompts
    assert found.shape == (4, 4)
    np.testing.assert_allclose(found[:, -1], (query * w).sum(1), atol=1e-10)
    np.testing.assert_allclose(found[:, 0], 0)


def test_gradient_descent_takes_its_steps(prompts):
    X, y, query, _ = prompts
    w = np.zeros((4, 3))
    expected = [(w * query).sum(1)]
    for _ in range(2):
        w = w - 0.3 * np.einsum("pnd,pn->pd", X, np.einsum("pnd,pd->pn", X, w) - y) / 6
        expected.append((w * query).sum(1))
    found = predicted(job(GradientDescent(depth=2, step=0.3)), prompts)
    np.testing.assert_allclose(found, np.stack(expected, 1), atol=1e-12)


def test_a_trained_layer_is_a_step_with_its_matrix(prompts):
    X, y, query, _ = prompts
    one = job(LinearTransformer(depth=1, preconditioner="full"))
    [A] = execute(WorkOrder(Pack((one,))), torch.device("cpu")).tables["weights"].to_pylist()
    matrix = np.array(A["values"]).reshape(3, 3)
    found = predicted(one, prompts, {A["name"]: torch.as_tensor(matrix).reshape(A["shape"])})
    expected = np.einsum("pd,de,pne,pn->p", query, matrix, X, y) / 6
    np.testing.assert_allclose(found[:, 1], expected, rtol=1e-6)


def test_what_is_answered_to_its_own_prompts_has_the_error_that_the_store_has():
    """A token model, whose queries are sampled: the mean of its squared errors is the mse of its results."""
    one = Job.of(
        task=TASK,
        solver=Memformer(memory="lfom", preconditioner="full", gate="token", depth=2),
        protocol=replace(PROTOCOLS["published"], steps=3, batch=8, test_prompts=500, test_on="fresh", withheld=0),
        seed=3,
    )
    tables = execute(WorkOrder(Pack((one,))), torch.device("cpu")).tables
    params = {
        row["name"]: torch.tensor(row["values"], dtype=torch.float64).reshape(row["shape"])
        for row in tables["weights"].to_pylist()
    }
    given = example(one, 500)
    found = predictions(one, params, **given)
    target = (_drawn(one, 500).w_star[0].T * given["query"]).sum(1)
    errors = (found - target[:, None]).square().mean(0)
    np.testing.assert_allclose(errors, tables["results"]["mse"].to_numpy(), rtol=1e-4)


def test_logistic_labels_are_taken_as_such(prompts):
    X, y, query, _ = prompts
    one = job(GradientDescent(depth=1, step=1.0), LogisticRegression(d=3, n=6))
    found = predicted(one, (X, np.sign(y), query, query))
    expected = np.einsum("pd,pnd,pn->p", query, X, np.sign(y)) / 12  # sigma(0) = 1/2
    np.testing.assert_allclose(found[:, 1], expected, atol=1e-12)


def test_another_number_of_examples_is_no_matter(prompts):
    X, y, query, w = prompts
    found = predicted(job(ConjugateGradient(depth=3)), (X[:, :4], y[:, :4], query, w))
    np.testing.assert_allclose(found[:, -1], (query * w).sum(1), atol=1e-8)


def test_what_nobody_can_tell_is_named(prompts):
    with pytest.raises(UserError, match="BestKrylov is told the answer of every prompt"):
        predicted(job(BestKrylov(depth=1, preconditioner="identity")), prompts)
