"""What workers are sent of a store, and what plans learn from it."""

from __future__ import annotations

from dataclasses import replace

import torch

from lfombench.harness.driver.checkpoints import CheckpointStore
from lfombench.harness.driver.plan import with_history
from lfombench.harness.driver.recorder import StoreRecorder, work_order
from lfombench.harness.scheduler.packing import PlannedPack
from lfombench.harness.scheduler.pools import Pool
from lfombench.harness.store import side_files
from lfombench.harness.training import train
from lfombench.harness.training.pack import WorkOrder
from tests.builders import pack, run


def test_weights_are_kept_to_the_last_bit(store):
    given = pack()
    outcome = run(given)
    store.commit([outcome])
    weights = work_order(store.place, PlannedPack(replace(given, trained=True))).weights
    trained, _ = train.run(WorkOrder(given), torch.device("cpu"))
    for j, one in enumerate(weights):
        assert one.params.keys() == {"A"}
        assert torch.equal(one.params["A"], trained.params["A"][j])
        assert one.params["A"].dtype == torch.float32


def test_a_pack_gives_signs_of_life_well_within_its_deadline(store):
    """They are its checkpoints: with one in 15 seconds, `--deadline 10` would cancel every longer pack."""
    for deadline, every in ((None, 15.0), (10.0, 0.5), (3600.0, 15.0)):
        recorder = StoreRecorder(store, CheckpointStore(store.place), deadline)
        assert recorder.order(PlannedPack(pack())).checkpoint_every == every


def test_history_is_what_packs_have_cost(store):
    assert not with_history(store, Pool()).history.cost(pack()).measured
    store.commit([run(pack())])
    assert with_history(store, Pool()).history.cost(pack()).measured
    assert not with_history(store, Pool("gpu", "another device")).history.cost(pack()).measured


def test_a_width_that_was_too_much_is_remembered_for_its_device(store):
    side_files.keep_width(store.place, "cpu", "abc", 64)
    side_files.keep_width(store.place, "cpu", "abc", 40)
    side_files.keep_width(store.place, "cpu", "abc", 99)
    assert with_history(store, Pool()).history.widest == {"abc": 20}
    assert with_history(store, Pool("gpu", "another device")).history.widest == {}
