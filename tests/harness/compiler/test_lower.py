"""Machine code against PyTorch: trainings and tests of everything that ships."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from lfombench.harness.compiler import known, lower, native
from lfombench.harness.compiler.known import shapes
from lfombench.harness.compiler.lower import lowering
from lfombench.harness.compiler.select import program
from lfombench.harness.compiler.target import Target
from lfombench.harness.training import evaluate
from lfombench.harness.training.closed_form import fit
from lfombench.harness.training.training_step import initial, training
from lfombench.solvers import (
    Bayes,
    BestKrylov,
    BestLfom,
    Chebyshev,
    ConjugateGradient,
    GdPlusPlus,
    GradientDescent,
    HeavyBall,
    LBfgs,
    Lfom,
    LinearTransformer,
    Memformer,
    Nesterov,
    Newton,
    Ridge,
    SoftmaxTransformer,
)
from lfombench.tasks import CATALOG, LinearRegression
from tests.builders import order
from tests.programs import CPU, TASK, both, pack

TRAINED = [
    *(LinearTransformer(depth=2, preconditioner=p) for p in ("scalar", "diagonal", "full")),
    *(Memformer(depth=2, memory="cgd", preconditioner=p) for p in ("scalar", "full")),
]
VARIANTS: list[dict[str, Any]] = [
    {},
    {"renew": 3, "clip": 0.01},
    {"renew": None, "schedule": "constant"},
    {"draw": "examples", "query": "sampled"},
]
# What draws prompts, the schedule and clipping know no solver, and no solver them: each meets two of the others.
PAIRS = [(solver, VARIANTS[k % 4]) for i, solver in enumerate(TRAINED) for k in (i, i + 1)]


@pytest.mark.parametrize(("form", "batch"), [("unrolled", 3), ("looped", 45)])
@pytest.mark.parametrize(("solver", "protocol"), PAIRS, ids=repr)
def test_training_is_what_is_written(solver, protocol, form, batch):
    (ours, state), (theirs, expected) = both(pack(solver, batch=batch, **protocol), 0, 8, form)
    for name in ("loss", "norm"):
        assert torch.allclose(ours[name], theirs[name], rtol=1e-4), name
    for name, x in expected.items():
        if name.startswith("p."):
            assert torch.allclose(state[name], x, rtol=1e-3, atol=1e-4), name
    assert torch.equal(state["alive"], expected["alive"])


@pytest.mark.parametrize(("form", "batch"), [("unrolled", 16), ("looped", 32)])
def test_training_on_batches_that_fill_up(form, batch):
    test_training_is_what_is_written(LinearTransformer(depth=2, preconditioner="full"), {}, form, batch)


@pytest.mark.parametrize("form", ["unrolled", "looped"])
@pytest.mark.parametrize(
    ("solver", "rotation"),
    [
        (ConjugateGradient(depth=3), "none"),
        (GradientDescent(depth=3, step=0.2), "per_seed"),
        (Memformer(depth=2, memory="cgd", preconditioner="diagonal"), "per_prompt"),
        (BestLfom(depth=2, preconditioner="identity"), "per_seed"),
        (BestLfom(depth=2, preconditioner="covariance"), "per_prompt"),
    ],
    ids=repr,
)
def test_every_shipped_method_is_tested_by_machine_code(solver, rotation, form):
    given = pack(solver, task=replace(TASK, rotation=rotation))
    params = fit(given, CPU).params if solver.family == "bound" else {}
    if solver.family == "learned":
        params = {name: p[0] for name, p in initial(given, CPU).items()}
    expected = evaluate.test(given, params, None, CPU)
    found = evaluate.test(replace(given, engine=form), params, None, CPU)
    assert found.shape == expected.shape == (2, solver.depth + 1, 70)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-7)


TASKS: list[Any] = list(CATALOG.values())
NEW = [
    Lfom(depth=3, coefficients="diagonal"),
    HeavyBall(depth=3, step="tuned", momentum="per_layer"),
    Chebyshev(depth=3, interval="tuned", preconditioner="covariance"),
    LinearTransformer(depth=3, preconditioner="diagonal", looped=True, heads=2),
    Memformer(depth=2, memory="lfom", preconditioner="full", gate="diagonal", free=True),
    Memformer(depth=2, memory="lfom", preconditioner="full", gate="token"),
    GdPlusPlus(depth=2, memory="lfom"),
    SoftmaxTransformer(depth=2),
]


@pytest.mark.parametrize("form", ["unrolled", "looped"])
@pytest.mark.parametrize("solver", NEW, ids=repr)
def test_every_kind_of_memory_is_trained_by_machine_code(solver, form):
    (ours, state), (theirs, expected) = both(pack(solver, batch=16), 0, 8, form)
    assert torch.allclose(ours["loss"], theirs["loss"], rtol=1e-4)
    for name, x in expected.items():
        if name.startswith("p."):
            assert torch.allclose(state[name], x, rtol=1e-3, atol=1e-4), name


@pytest.mark.parametrize(
    ("solver", "task"),
    [
        *(
            (solver, TASK)
            for solver in (
                BestKrylov(depth=2, preconditioner="covariance"),
                Bayes(depth=2),
                Ridge(depth=2, penalty=0.1),
                LBfgs(depth=3, memory=2),
                Chebyshev(depth=3, interval="theory"),
                Nesterov(depth=3, step="theory", momentum=0.5),
                ConjugateGradient(depth=3, preconditioner="jacobi"),
            )
        ),
        *((Newton(depth=2), replace(task, d=3, n=6, spectrum=None)) for task in TASKS),
    ],
    ids=repr,
)
def test_every_bound_and_task_is_tested_by_machine_code(solver, task):
    given = pack(solver, task=task)
    expected = evaluate.test(given, {}, None, CPU)
    found = evaluate.test(replace(given, engine="looped"), {}, None, CPU)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("form", ["unrolled", "looped"])
def test_a_member_does_not_depend_on_its_neighbours_to_the_bit(form):
    """Alone, beside others, in another order, in one call or several: the same bits, training and test."""
    solver = Memformer(depth=3, memory="cgd", preconditioner="full")
    given = pack(solver, jobs=5)

    def trained(jobs, cuts=(12,)):
        step, job, state, key = training(order(jobs), CPU)
        advance, first = program(step, job, state, key, 12, form), 0
        for count in cuts:
            advance(first, count)
            first += count
        return {name: x for name, x in state.items() if name[0] == "p"}

    together = trained(given.jobs)
    turned = trained(given.jobs[::-1], cuts=(5, 7))
    for j, one in enumerate(given.jobs):
        alone = trained((one,))
        for name, x in together.items():
            assert torch.equal(alone[name][:, 0], x[:, j])
            assert torch.equal(turned[name][:, 4 - j], x[:, j])


def test_a_step_too_large_to_write_out_runs_as_loops():
    """Of a size where a line would have millions of operations: the same numbers, with code that does not grow."""
    small, large = (
        pack(LinearTransformer(depth=2, preconditioner="full"), task=LinearRegression(d=d, n=40), batch=16)
        for d in (16, 32)
    )
    lengths = []
    for given in (small, large):
        step, job, state, _ = training(given, CPU)
        lengths.append(lowering(step, shapes(job, 1), shapes(state, 2)).lowered("unrolled").source.count("\n"))
    assert lengths[1] <= 1.1 * lengths[0]
    (ours, state), (theirs, expected) = both(large, 0, 3)
    assert torch.allclose(ours["loss"], theirs["loss"], rtol=1e-4)
    assert torch.allclose(state["p.A"], expected["p.A"], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "solver",
    [
        GdPlusPlus(depth=1),
        LinearTransformer(depth=2, preconditioner="full", tokens=True),
        Memformer(depth=2, memory="cgd", preconditioner="scalar", tokens=True),
    ],
    ids=repr,
)
@pytest.mark.parametrize("form", ["unrolled", "looped"])
def test_token_models_train_as_eager_ones(solver, form):
    (ours, state), (theirs, expected) = both(pack(solver), 0, 5, form)
    assert torch.allclose(ours["loss"], theirs["loss"], rtol=1e-4)
    for name, x in expected.items():
        if name.startswith("p."):
            assert torch.allclose(state[name], x, rtol=1e-3, atol=1e-4), name


@pytest.mark.parametrize("form", ["unrolled", "looped"])
@pytest.mark.parametrize("target", [Target(32, 16), Target(64, 32)], ids=["256 bits", "512 bits"])
def test_vectors_of_every_width_give_the_same_losses(target, form, monkeypatch, tmp_path):
    """Those of other machines, on this one: the compiler makes two registers of one that it does not have."""
    monkeypatch.setenv("LFOMBENCH_CACHE", str(tmp_path))
    for module in (lower, known):
        monkeypatch.setattr(module, "host", lambda: target)
    native.program.cache_clear()
    native.lowering_of.cache_clear()
    test_training_is_what_is_written(Memformer(depth=2, memory="cgd", preconditioner="full"), {}, form, 45)
    native.program.cache_clear()
    native.lowering_of.cache_clear()
