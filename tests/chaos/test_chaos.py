"""Storms: whatever breaks, the same command ends with the same board, to the bit.

`make chaos` runs a hundred from a printed seed; one is among the tests.
"""

from __future__ import annotations

import os
import random

import pytest

from .storm import Storm

SEED = int(os.environ.get("CHAOS_SEED", "0")) or random.SystemRandom().randrange(1 << 30)
STORMS = int(os.environ.get("CHAOS_STORMS", "0"))
TESTED = [(21, 2)]  # seed and workers of those that are always run


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.xdist_group("ray")
@pytest.mark.parametrize(("seed", "workers"), [*TESTED, *((SEED + i, 2 * (i % 4 == 3)) for i in range(STORMS))])
def test_a_storm_changes_nothing(undisturbed, tmp_path, seed, workers):
    storm = Storm(tmp_path / "storm", seed, workers)
    names = storm.rage()
    results = storm.calm()
    assert results.equals(undisturbed), f"{names}\n{storm.report()}"
    print(f"seed {seed}, {workers} workers: {', '.join(names)}")
