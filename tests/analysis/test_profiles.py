"""Steps to a target, profiles, and layers counted in steps of conjugate gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lfombench.analysis.assemble import boards
from lfombench.analysis.losses import outcomes
from lfombench.analysis.profiles import Profile, in_yardsticks, profiles
from lfombench.analysis.results import Tables, sweeps
from tests.stores import ZERO, store

PROFILE = Profile("p", 0.01, ["a", "b"], np.array([[1.0, 2.0, np.inf, 4.0], [2.0, 1.0, np.inf, np.inf]]))


def test_shares_of_problems_and_ratios_to_the_best():
    assert PROFILE.ecdf("a") == [(1.0, 0.25), (2.0, 0.5), (4.0, 0.75)]
    assert PROFILE.ecdf("b") == [(1.0, 0.25), (2.0, 0.5)]
    assert PROFILE.ratios("a") == [(1.0, 0.5), (2.0, 0.75)]
    assert PROFILE.ratios("b") == [(1.0, 0.25), (2.0, 0.5)]


def made(tmp_path):
    """Conjugate gradients halve the log error of ZERO in two steps and lose seed 1; `half` needs twice the steps."""
    zero, rows = math.log(ZERO), []
    for seed in (0, 1):
        for step in range(5):
            lost = seed == 1 and step > 2
            rows.append(("conjugate_gradient", "classical", 4, step, seed, None if lost else zero - 3.0 * step))
            rows.append(("half", "classical", 4, step, seed, zero - 1.5 * step))
    return store(tmp_path, rows)


def test_steps_to_a_target_come_from_the_losses(tmp_path):
    tables, [manifest] = Tables(made(tmp_path)), sweeps(str(tmp_path / "made"))
    [one] = profiles(outcomes(tables, manifest), tables.zeros)
    assert one.solvers == ["conjugate_gradient", "half"]
    assert one.steps.tolist() == [[2.0, 2.0], [4.0, 4.0]]  # log 0.01 is -4.6
    [strict] = profiles(outcomes(tables, manifest), tables.zeros, target=1e-4)
    assert strict.steps.tolist() == [[4.0, math.inf], [math.inf, math.inf]]


def test_layers_in_steps_of_conjugate_gradients(tmp_path):
    tables, [manifest] = Tables(made(tmp_path)), sweeps(str(tmp_path / "made"))
    [board] = boards(tables, manifest).boards
    found = in_yardsticks(board, math.log(ZERO))
    assert found["half"] == pytest.approx({1: 0.5, 2: 1.0, 3: 1.5, 4: 2.0})
    assert found["conjugate_gradient"] == pytest.approx({1: 1, 2: 2, 3: 3, 4: 4})
    assert in_yardsticks(board, None) == {}
