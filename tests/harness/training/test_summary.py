"""The rows that are kept of test errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lfombench.harness.training import evaluate, summary
from lfombench.harness.training.execute import execute
from lfombench.solvers import ConjugateGradient
from tests.builders import order
from tests.trainings import CPU, jobs


def test_statistics_of_a_row():
    row = execute(order(jobs(ConjugateGradient(depth=2), seeds=[0])), CPU).tables["results"].to_pylist()[2]
    errors = evaluate.test(order(jobs(ConjugateGradient(depth=2), seeds=[0])), {}, None, CPU)[0]
    assert row["mse"] == pytest.approx(errors[2].mean().item())
    assert row["mse_normalised"] == pytest.approx((errors[2].mean() / errors[0].mean()).item())
    assert row["median"] == pytest.approx(errors[2].quantile(0.5).item())
    assert row["q90"] == pytest.approx(errors[2].quantile(0.9).item())
    assert row["failure_rate"] == pytest.approx((errors[2] > errors[0]).double().mean().item())
    assert sum(row["blocks"]) / 64 == pytest.approx(row["mse"])
    assert row["prompts"] == 512


def test_no_failures_are_counted_at_step_zero_and_a_nan_is_one():
    errors = torch.tensor([[1.0, 2.0, 3.0, 4.0] * 16, [0.5, float("nan"), 3.5, 4.0] * 16]).double()
    found = summary.losses_of(torch.stack([errors, errors]), [False, True])
    assert found["failure_rate"] == [0.0, 0.5, None, None]
    assert found["step"] == [0, 1, 0, 1]
    assert found["blocks"][2] is None


@pytest.mark.parametrize("prompts", [1, 2, 7, 64, 100, 1000])
def test_a_device_tells_the_same_of_errors(prompts):
    errors = torch.randn(3, 4, prompts, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).square()
    errors[1, 2, -1], errors[2, 3, 0] = torch.nan, torch.inf
    theirs, blocks = summary._statistics(errors.numpy())
    ours, own_blocks = summary._on_device(errors)
    for name in ("median", "q90", "q99"):
        np.testing.assert_array_equal(ours[name], theirs[name])
    for name in ours:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-12)
    np.testing.assert_allclose(own_blocks, blocks, rtol=1e-12)
