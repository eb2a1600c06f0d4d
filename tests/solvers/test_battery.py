"""What every solver in the table must do. A new solver is a line in CASES of `tests/battery.py`."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
import torch

from lfombench.harness import PROTOCOLS, Job
from lfombench.harness.compiler.streams import Streams, keys
from lfombench.harness.spec.labels import label
from lfombench.harness.training.evaluate import iterates
from lfombench.harness.training.execute import execute
from lfombench.harness.training.pack import stack
from lfombench.solvers import (
    SOLVERS,
    ContextMixture,
    Mixture,
    Solver,
)
from lfombench.tasks import Law, LinearRegression, LogisticRegression, Prompts, Quadratic
from tests.battery import CASES, DEPTH, TOKENS, D, N
from tests.builders import order

PROMPTS = 11
CPU = torch.device("cpu")
every = pytest.mark.parametrize("solver", CASES, ids=label)
learned = pytest.mark.parametrize("solver", [s for s in CASES if s.trains], ids=label)


def drawn(jobs: int, dtype: torch.dtype = torch.float64) -> Any:
    task = LinearRegression(d=D, n=N, spectrum=(1.0, 0.5, 2.0, 1.0), noise=0.1)
    frame = task.frame(Streams(keys([("frame", i) for i in range(jobs)], CPU), torch.float64))
    return task.prompts(Streams(keys([("x", i) for i in range(jobs)], CPU), dtype), frame.to(dtype), PROMPTS)


def parameters(solver: Any, prompts: Prompts, scale: float = 0.3):
    """Random ones, or the closed-form fit."""
    params = started(solver, len(prompts.w_star), prompts.w_star.dtype, scale)
    return params | solver.fit(solver.moments(params, prompts.problem, prompts.residual)) if solver.fits else params


def started(solver: Solver, jobs: int, dtype: torch.dtype, scale: float, *word):
    """Random ones, of a mixture's experts too."""
    random = Streams(keys([("init", *word, i) for i in range(jobs)], CPU), dtype)
    params = dict(solver.init(D, N, lambda *shape: scale * random.normal(*shape)))
    for e, model in enumerate(solver.models if isinstance(solver, Mixture | ContextMixture) else ()):
        params |= {f"{e}.{name}": p for name, p in started(model, jobs, dtype, scale, e).items()}
    return params


def one(prompts: Prompts, j: int) -> Prompts:
    """The j-th stream alone."""

    def cut(part):
        """Its tensors from j to j + 1."""
        changed = {f.name: getattr(part, f.name) for f in fields(part)}
        for name, value in changed.items():
            if isinstance(value, torch.Tensor):
                changed[name] = value[j : j + 1]
            elif isinstance(value, Law | Quadratic):
                changed[name] = cut(value)
        return type(part)(**changed)

    return cut(prompts)


def run(solver: Solver, params, prompts: Prompts) -> torch.Tensor:
    return torch.stack(list(iterates(solver, params, prompts)))


def test_every_solver_is_in_the_battery():
    assert {type(solver) for solver in CASES + TOKENS} == set(SOLVERS.values())


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shape_dtype_and_start(solver, dtype):
    prompts = drawn(2, dtype)
    w = run(solver, parameters(solver, prompts), prompts)
    assert w.shape == (DEPTH + 1, 2, D, PROMPTS)
    assert w.dtype == dtype
    assert torch.all(w[0] == 0)
    assert torch.all(w.isfinite())


@every
def test_deterministic(solver):
    prompts = drawn(2)
    params = parameters(solver, prompts)
    assert torch.equal(run(solver, params, prompts), run(solver, params, prompts))


@every
def test_packed_is_alone(solver):
    """A job gives the same iterates in a pack as by itself."""
    prompts = drawn(3)
    params = parameters(solver, prompts)
    together = run(stack([solver] * 3, torch.float64, CPU), params, prompts)
    for j in range(3):
        alone = run(solver, {name: p[j : j + 1] for name, p in params.items()}, one(prompts, j))
        assert torch.allclose(together[:, j], alone[:, 0], rtol=1e-12, atol=1e-12)


@every
def test_further_leading_axes(solver):
    """An axis of learning rates in front of the jobs."""
    prompts = drawn(2)
    params = {name: p.expand(3, *p.shape) for name, p in parameters(solver, prompts).items()}
    found = list(iterates(solver, params, prompts))
    expected = run(solver, {name: p[0] for name, p in params.items()}, prompts)
    for w, e in zip(found, expected, strict=True):
        assert torch.allclose(w.expand(3, *e.shape)[2], e, rtol=1e-9, atol=1e-12)


@learned
def test_gradient_against_finite_differences(solver):
    prompts = drawn(1)
    params = parameters(solver, prompts, scale=0.1)
    names = [name for name, p in params.items() if p.numel()]

    def loss(*values: torch.Tensor) -> torch.Tensor:
        chosen = dict(params) | dict(zip(names, values, strict=True))
        return prompts.squared_error(list(solver.iterates(chosen, prompts.problem))[-1]).mean()

    leaves = tuple(params[name].clone().requires_grad_() for name in names)
    assert torch.autograd.gradcheck(loss, leaves)


@learned
def test_zero_parameters_stay_at_zero(solver):
    """Without steps nothing moves: alpha = 1 and gates of 1 remain, A = eta = 0."""
    prompts = drawn(1)
    assert torch.all(run(solver, parameters(solver, prompts, scale=0.0), prompts) == 0)


@every
def test_from_the_optimum_nothing_moves(solver):
    """Where the gradient is 0, no first-order method leaves w_0."""
    prompts = drawn(1)
    problem = Quadratic(prompts.problem.law, prompts.problem.G, torch.zeros_like(prompts.problem.b))
    still = Prompts(problem, prompts.w_star, prompts.judge)
    assert torch.all(run(solver, parameters(solver, prompts), still) == 0)


@pytest.mark.parametrize("solver", [s for s in CASES if s.needs <= {"covariance"}], ids=label)
def test_on_a_logistic_risk(solver):
    """Every method that asks for no more than a gradient and a Hessian runs, and packed is alone."""
    task = LogisticRegression(d=D, n=N)
    frame = task.frame(Streams(keys([("frame", i) for i in range(2)], CPU), torch.float64))
    examples = task.examples(Streams(keys([("x", i) for i in range(2)], CPU), torch.float64), frame, PROMPTS)
    params = started(solver, 2, torch.float64, 0.1)
    w = torch.stack(list(solver.iterates(params, examples.problem())))
    assert w.shape == (DEPTH + 1, 2, D, PROMPTS)
    assert torch.all(w.isfinite())


def seen(jobs: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Tokens."""
    task = LinearRegression(d=D, n=N, noise=0.1, rotation="none")
    random = Streams(keys([("x", i) for i in range(jobs)], CPU), dtype)
    return task.examples(random, task.frame(random), PROMPTS).tokens()


@pytest.mark.parametrize("solver", TOKENS, ids=label)
def test_a_token_model_on_its_tokens(solver):
    """Shapes, types and the start; packed = alone; a further axis in front; a gradient; no parameters, no change."""
    for dtype in (torch.float32, torch.float64):
        Z = seen(3, dtype)
        params = started(solver, 3, dtype, 0.1)
        y = torch.stack(list(solver.predictions(params, Z)))
        assert y.shape == (DEPTH + 1, 3, PROMPTS)
        assert y.dtype == dtype
        assert torch.all(y[0] == 0)
    one = torch.stack(list(solver.predictions({name: p[1:2] for name, p in params.items()}, Z[1:2])))
    assert torch.allclose(one[:, 0], y[:, 1], rtol=1e-12, atol=1e-12)
    more = list(solver.predictions({name: p.expand(2, *p.shape) for name, p in params.items()}, Z))
    assert torch.allclose(more[-1][1], y[-1], rtol=1e-9, atol=1e-12)
    leaves = tuple(p[:1].clone().requires_grad_() for p in params.values())
    assert torch.autograd.gradcheck(
        lambda *p: list(solver.predictions(dict(zip(params, p, strict=True)), Z[:1]))[-1].square().sum(), leaves
    )
    still = {name: torch.zeros_like(p) for name, p in params.items()}
    assert torch.all(torch.stack(list(solver.predictions(still, Z))) == 0)


@pytest.mark.parametrize(
    "solver", [s for s in CASES + TOKENS if not isinstance(s, Mixture | ContextMixture)], ids=label
)
def test_a_pack_runs_from_training_to_rows(solver):
    """Nothing on the way asks a solver for what it has not."""
    protocol = replace(PROTOCOLS["rigorous"], steps=2, batch=8, learning_rates=(0.01,), test_prompts=64)
    task = LinearRegression(d=D, n=N, noise=0.1)
    pack = order(tuple(Job.of(task=task, solver=solver, protocol=protocol, seed=seed) for seed in (0, 1)))
    tables = execute(pack, CPU).tables
    assert tables["jobs"]["status"].to_pylist() == ["done"] * 2
    assert len(tables["results"]) == 2 * (DEPTH + 1)
