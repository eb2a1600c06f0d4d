"""How a protocol divides training."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lfombench.harness import PROTOCOLS


@pytest.mark.parametrize(
    ("steps", "cycle", "rounds"),
    [(10, None, (10,)), (10, 20, (10,)), (16, 2, (2, 4, 8, 16)), (13, 3, (3, 6, 12, 13))],
)
def test_a_cycle_takes_as_many_steps_as_all_before(steps, cycle, rounds):
    assert replace(PROTOCOLS["rigorous"], steps=steps, cycle=cycle).rounds == rounds
