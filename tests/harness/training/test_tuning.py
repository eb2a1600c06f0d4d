"""Cycles, validation rounds, halving and plateaus: what training keeps of what it tries."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from lfombench.harness import PROTOCOLS, Job
from lfombench.harness.training import adam, evaluate, train
from lfombench.harness.training.best import trial_table
from lfombench.harness.training.execute import execute
from lfombench.harness.training.pack import WorkOrder
from lfombench.harness.training.training_step import training
from lfombench.solvers import Chebyshev, GradientDescent, HeavyBall, LinearTransformer
from lfombench.tasks import LinearRegression
from tests.builders import order

CPU = torch.device("cpu")
TASK = LinearRegression(d=3, n=8, spectrum=(1.0, 0.5, 2.0))
QUICK = replace(
    PROTOCOLS["rigorous"], steps=80, cycle=10, plateau=None, batch=64, validation_prompts=512, test_prompts=512
)
LT = LinearTransformer(depth=2, preconditioner="full")


def pack(solver=LT, jobs=3, **protocol) -> WorkOrder:
    chosen = replace(QUICK, **protocol)
    return order(tuple(Job.of(task=TASK, solver=solver, protocol=chosen, seed=seed) for seed in range(jobs)))


def test_the_schedule_falls_to_zero_in_every_cycle_and_starts_anew():
    protocol = replace(QUICK, schedule="cosine")
    rates = [adam.schedule(protocol, torch.tensor(t)).item() for t in range(80)]
    for begin, end in ((0, 10), (10, 20), (20, 40), (40, 80)):
        expected = [0.5 * (1 + math.cos(math.pi * t / (end - begin))) for t in range(end - begin)]
        assert rates[begin:end] == pytest.approx(expected)


def test_trials_are_halved_and_the_budget_counts_all_of_them():
    trained = train.run(pack(learning_rates=tuple(10.0 ** -(i / 2) for i in range(9)), halving=3), CPU)[0]
    steps = 9 * 10 + 3 * 10 + 20 + 40  # nine trials, then three, then one
    assert trained.budget == [64 * steps] * 3
    assert trained.steps == [80] * 3
    assert all(0.001 < chosen["learning_rate"] < 1 for chosen in trained.chosen)


def test_with_halving_the_survivor_is_what_it_would_be_alone():
    """As if no other rate had been tried: dropping trials changes no number. (All start at 0: ids differ.)"""
    rates = (1e-6, 0.05, 1e-5)
    both = train.run(pack(learning_rates=rates, halving=3, init_scale=0.0), CPU)[0]
    alone = train.run(pack(learning_rates=(0.05,), init_scale=0.0), CPU)[0]
    assert [chosen["learning_rate"] for chosen in both.chosen] == [0.05] * 3
    for name, p in alone.params.items():
        assert torch.allclose(both.params[name], p, rtol=1e-6, atol=1e-7)
    assert torch.allclose(both.losses, alone.losses, rtol=1e-5)


def test_the_best_round_is_kept_and_not_the_last():
    """A constant rate on two prompts a step: the loss jumps about, and the round that was best is what remains."""
    noisy = {"learning_rates": (0.1,), "schedule": "constant", "batch": 2, "init_scale": 0.0, "halving": None}
    trained = train.run(pack(**noisy), CPU)[0]
    losses = []
    for round in QUICK.rounds:
        given = pack(**noisy, steps=round, cycle=None)
        params = {name: p.unsqueeze(0) for name, p in train.run(given, CPU)[0].params.items()}
        losses.append(evaluate.validate(given, trial_table(given.pack), params, CPU)[0].tolist())
    best = [QUICK.rounds[min(range(len(losses)), key=lambda i, j=j: losses[i][j])] for j in range(3)]
    assert trained.steps == best
    assert min(best) < 80


def test_a_job_stops_where_a_cycle_no_longer_helps_and_its_neighbours_go_on():
    """Rates too small to move stop after the second round; with one that moves, a job trains on."""
    still = train.run(pack(learning_rates=(1e-9,), plateau=0.01), CPU)[0]
    assert still.budget == [64 * 20] * 3
    given = pack(learning_rates=(0.03,), plateau=0.01)
    slow = Job.of(task=TASK, solver=LT, protocol=replace(QUICK, learning_rates=(1e-9,), plateau=0.01), seed=9)
    mixed = train.run(order((*given.jobs, slow)), CPU)[0]
    alone = train.run(given, CPU)[0]
    assert mixed.budget[3] == 64 * 20
    assert mixed.steps[:3] == alone.steps
    assert min(mixed.steps[:3]) > 20
    for name, p in alone.params.items():
        assert torch.allclose(mixed.params[name][:3], p, rtol=1e-6, atol=1e-7)


def test_curves_end_where_the_kept_parameters_do():
    tables = execute(pack(learning_rates=(0.03, 1e-9), plateau=0.5, halving=2), CPU).tables
    for row in tables["jobs"].to_pylist():
        curve = [r for r in tables["curves"].to_pylist() if r["job"] == row["job"]]
        assert max(r["step"] for r in curve) <= row["steps"]
        assert all(math.isfinite(r["loss"]) for r in curve)
        assert row["trials"] == 2
        assert row["budget"] >= row["train_prompts"] == 64 * row["steps"]


def test_any_float_can_be_tuned_on_validation_prompts():
    """A classical method's step: the best of a grid by the validation loss, for each job; no training."""
    grid = (0.001, 0.1, 0.15, 1.5, 3.0)
    given = pack(GradientDescent(depth=2, step=0.1), tune=(("step", grid),))
    tables = execute(given, CPU).tables
    for row, job in zip(tables["jobs"].to_pylist(), given.jobs, strict=True):
        chosen = float(row["tuned"].split(":")[1].strip(" }"))
        assert chosen in (0.1, 0.15)
        assert row["trials"] == 5
        assert row["solver"] == "gradient_descent(step=0.1)"
        [other] = [r for r in tables["results"].to_pylist() if r["job"] == job.id and r["step"] == 2]
        fixed = Job.of(task=TASK, solver=GradientDescent(depth=2, step=chosen), protocol=job.protocol, seed=job.seed)
        direct = evaluate.test(order((fixed,)), {}, None, CPU)[0, 2].mean().item()
        assert other["mse"] == pytest.approx(direct)


def test_momentum_and_betas_are_tuned_together_with_the_learning_rate():
    given = pack(
        HeavyBall(depth=3, step="tuned", momentum=0.3),
        jobs=1,
        learning_rates=(0.03, 1e-7),
        tune=(("beta2", (0.9, 0.99)), ("init_scale", (0.01,)), ("momentum", (0.2, 5.0))),
    )
    trained = train.run(given, CPU)[0]
    assert len(given.first.trials) == 8
    assert trained.chosen[0]["learning_rate"] == 0.03
    assert trained.chosen[0]["momentum"] == 0.2
    solver: Any = trained.jobs[0].solver
    assert solver.momentum == 0.2


@pytest.mark.parametrize(
    "solver",
    [
        GradientDescent(depth=1, step="tuned"),
        HeavyBall(depth=1, step="tuned", momentum="tuned"),
        Chebyshev(depth=1, interval="tuned"),
    ],
    ids=repr,
)
def test_a_tuned_step_is_the_closed_form(solver):
    """E |w* - a G w*|_Sigma^2 is least at a = n / (n + d + 1) where Sigma = I."""
    protocol = replace(QUICK, steps=600, cycle=None, halving=None, batch=512, learning_rates=(0.02,))
    job = Job.of(task=LinearRegression(d=3, n=8), solver=solver, protocol=protocol, seed=0)
    params = train.run(order((job,)), CPU)[0].params
    [step] = [p for name, p in params.items() if name in ("step", "eta")]
    assert step.item() == pytest.approx(8 / 12, rel=0.05)


def test_testing_on_the_training_prompts_is_the_training_loss():
    """Memorised: the loss at the last step, on the same prompts, whatever the number of prompts."""
    for batch in (10, 3000):
        published = replace(PROTOCOLS["published"], test_on="training", batch=batch, steps=30)
        given = order((Job.of(task=TASK, solver=LT, protocol=published, seed=0),))
        step, job, state, key = training(given, CPU)
        trained = train.run(given, CPU)[0]
        tested = evaluate.test(given, trained.params, None, CPU)[0, -1]
        assert tested.shape == (batch,)
        from lfombench.harness.compiler.step import Eager

        for name, p in trained.params.items():
            state[f"p.{name}"] = p.unsqueeze(0)
        loss = Eager(step, job, state, key)(0, 1)["loss"].item()
        assert tested.mean().item() == pytest.approx(loss, rel=1e-4)
        rows = execute(given, CPU).tables["results"].to_pylist()
        assert len(rows[-1]["blocks"]) == min(batch, 64)
        assert rows[-1]["prompts"] == batch
