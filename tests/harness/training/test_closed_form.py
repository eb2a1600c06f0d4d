"""What is said of a fitted bound's own error, against what it is in closed form."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from lfombench.harness import PROTOCOLS, Job
from lfombench.harness.training import closed_form
from lfombench.harness.training.closed_form import fit
from lfombench.harness.training.execute import execute
from lfombench.harness.training.pack import WorkOrder
from lfombench.solvers import BestKrylov, BestLfom
from lfombench.tasks import LinearRegression
from tests.builders import order

CPU = torch.device("cpu")
D, N = 5, 20
TASK = LinearRegression(d=D, n=N, spectrum=(1.0,) * D)
QUICK = replace(PROTOCOLS["rigorous"], test_prompts=256)


def pack(solver, seeds) -> WorkOrder:
    return order(tuple(Job.of(task=TASK, solver=solver, protocol=QUICK, seed=seed) for seed in seeds))


def test_the_excess_of_a_fit_is_what_the_closed_form_says():
    """One isotropic step a has the error d (1 - 2a + a^2 (n + d + 1) / n), so that the excess of any a is known."""
    found = fit(pack(BestLfom(depth=1, preconditioner="identity"), range(100)), CPU, 3200)
    best = N / (N + D + 1)
    known = D / best * (found.params["q"][:, 0, 0] - best).square()
    ratio = found.excess[:, 0].mean() / known.mean()
    assert 0.6 < ratio < 1.6  # the mean of 100 squares of normal numbers varies by a seventh
    deviation = found.excess[:, 0].std() / found.excess[:, 0].mean()
    assert deviation < 0.5  # an estimate of the expectation, not a draw of it


def test_four_times_the_prompts_leave_a_quarter_of_the_excess():
    excess = []
    for total in (3200, 12800):
        bound = BestLfom(depth=3, preconditioner="covariance")
        excess.append(fit(pack(bound, range(60)), CPU, total).excess.median(0).values)
    assert (excess[0] / excess[1]).tolist() == pytest.approx([4, 4, 4], rel=0.5)


def test_the_store_has_the_error_of_what_is_fitted_and_of_nothing_else():
    tables = execute(pack(BestLfom(depth=2, preconditioner="identity"), [0]), CPU).tables
    assert (
        tables["jobs"]["budget"].to_pylist()
        == tables["jobs"]["train_prompts"].to_pylist()
        == [math.prod(closed_form.batches(D))]
    )
    bound = tables["results"]
    none, *errors = bound["fit_error"].to_pylist()
    assert none == 0
    assert all(0 < e < 0.02 * mse for e, mse in zip(errors, bound["mse"].to_pylist()[1:], strict=True))
    told = execute(pack(BestKrylov(depth=2, preconditioner="identity"), [0]), CPU).tables["results"]
    assert told["fit_error"].to_pylist() == [None] * 3


@pytest.mark.parametrize("d", [1, 5, 20, 100, 300])
def test_every_group_has_prompts_whatever_the_dimension(d):
    times, count = closed_form.batches(d)
    assert times >= closed_form.GROUPS
    assert count >= 32
    assert times * count <= max(closed_form.PROMPTS, 32 * closed_form.GROUPS)
