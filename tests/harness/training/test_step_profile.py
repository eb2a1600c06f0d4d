"""What a probe of a training step may cost, and that its parts are programs of their own."""

from __future__ import annotations

import time

import pytest

from lfombench.harness.compiler import native
from lfombench.harness.training import step_profile
from lfombench.harness.training.step_profile import SHARE, Budget, parts
from lfombench.solvers import LinearTransformer
from tests.programs import CPU, pack


def test_the_first_probe_is_allowed_and_then_a_fifth_of_the_time(monkeypatch):
    now = 100.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    budget = Budget()
    assert budget.allows()
    budget.spend(2.0)
    now = 100.0 + 4.0 / SHARE - 0.1  # the next may take two seconds as well
    assert not budget.allows()
    now += 0.2
    assert budget.allows()


def test_parts_of_a_step_are_not_taken_for_the_step_from_the_cache(monkeypatch, tmp_path):
    """They have its tensors, and shall not have its name there."""
    monkeypatch.setenv("LFOMBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(step_profile, "FRESH", 5)
    given = pack(LinearTransformer(depth=2, preconditioner="full"), steps=4000, batch=64)
    for _ in range(2):
        native.program.cache_clear()
        shares = parts(given, CPU)
        assert sum(shares) == pytest.approx(1.0)
    names = [path.name for path in tmp_path.glob("*.so")]
    assert len(names) == 4  # the step, its draws, its forward pass, its optimiser
