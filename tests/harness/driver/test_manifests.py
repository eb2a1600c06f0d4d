"""What a store remembers of a sweep."""

from __future__ import annotations

from lfombench.analysis.results import sweeps
from lfombench.harness import load
from lfombench.harness.driver.manifests import record_sweep
from lfombench.harness.store.store import Store


def test_a_sweep_is_remembered(tmp_path, small):
    store = Store(str(tmp_path))
    store.create()
    sweep = load(str(small))
    record_sweep(store, sweep)
    [wanted] = sweeps(store.out)
    assert wanted.name == "small"
    assert len(wanted.jobs) == len(sweep) == 20
