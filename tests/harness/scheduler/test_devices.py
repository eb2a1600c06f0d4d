"""What runs where, and how much of it at once."""

from __future__ import annotations

from lfombench.harness.scheduler.devices import packs_per_gpu
from tests.builders import two_packs


def test_packs_share_a_gpu_that_one_would_not_fill():
    assert packs_per_gpu(two_packs(2)) == 4
    assert packs_per_gpu(two_packs(600, batch=1000)) == 1
