"""The peak of memory that a pack is told to have had."""

from __future__ import annotations

import pytest
import torch

from lfombench.harness.scheduler.faults import Fault, Paused, run_pack
from lfombench.harness.store.outcome import Outcome
from lfombench.harness.training import train
from lfombench.harness.training.peak import Peak
from lfombench.solvers import ConjugateGradient, LinearTransformer
from tests.programs import CPU, pack

GPU = torch.device("cuda", 0)


@pytest.fixture
def allocated(monkeypatch):
    """Of a device that has given 500 bytes, and 1,700 at its peak."""
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 500)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 1700)


def test_packs_on_a_device_at_once_have_a_like_part_each(allocated):
    with Peak(GPU) as one:
        assert one.bytes() == 1200
        with Peak(GPU) as other, Peak(CPU):
            assert (one.bytes(), other.bytes()) == (600, 600)
        assert one.bytes() == 1200


def test_a_pack_that_fails_stops_or_is_done_is_counted_no_more(allocated, monkeypatch):
    def broken(order, device):
        raise ValueError

    learned = pack(LinearTransformer(depth=1, preconditioner="full"))
    ends = [[*run_pack(pack(ConjugateGradient(depth=2)), on=CPU)][-1], [*run_pack(learned, lambda: True, on=CPU)][-1]]
    monkeypatch.setattr(train, "stages", broken)
    ends += run_pack(learned, on=CPU)
    assert [type(end) for end in ends] == [Outcome, Paused, Fault]
    with Peak(CPU), Peak(GPU) as alone:
        assert alone.bytes() == 1200
        assert Peak.on[CPU] == 1
