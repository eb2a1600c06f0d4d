"""What workers are sent of a store, and what plans learn from it."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest
import torch

from lfombench.analysis.results import table
from lfombench.harness import PROTOCOLS, Job
from lfombench.harness.driver.plan import history_of
from lfombench.harness.driver.recorder import work_order
from lfombench.harness.scheduler.packing import PlannedPack
from lfombench.harness.store import side_files
from lfombench.harness.store.store import Store
from lfombench.harness.training import train
from lfombench.harness.training.execute import execute
from lfombench.harness.training.pack import Pack, WorkOrder
from lfombench.solvers import LinearTransformer
from lfombench.tasks import LinearRegression

QUICK = replace(PROTOCOLS["rigorous"], steps=2, batch=4, learning_rates=(0.1,), test_prompts=64)
TASK = LinearRegression(d=2, n=3)


def pack(seeds=range(3), solver=None) -> Pack:
    solver = solver or LinearTransformer(depth=1, preconditioner="full")
    return Pack(tuple(Job.of(task=TASK, solver=solver, protocol=QUICK, seed=seed) for seed in seeds))


@pytest.fixture
def store(tmp_path) -> Store:
    made = Store(str(tmp_path / "out"))
    made.create()
    return made


def run(given: Pack):
    return execute(WorkOrder(given), torch.device("cpu"))


def ids(given: Pack) -> set[str]:
    return {job.id for job in given.jobs}


def rows(store: Store, name: str = "results") -> pl.DataFrame:
    return (
        table(store.out, name)
        .collect()
        .sort(pl.all().exclude(pl.List(pl.Float64), pl.List(pl.Int32), pl.List(pl.String)))
    )


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


def test_history_is_what_packs_have_cost(store):
    assert not history_of(store, "cpu").cost(pack()).measured
    store.commit([run(pack())])
    assert history_of(store, "cpu").cost(pack()).measured
    assert not history_of(store, "another device").cost(pack()).measured


def test_a_width_that_was_too_much_is_remembered_for_its_device(store):
    side_files.keep_width(store.place, "cpu", "abc", 64)
    side_files.keep_width(store.place, "cpu", "abc", 40)
    side_files.keep_width(store.place, "cpu", "abc", 99)
    assert history_of(store, "cpu").widest == {"abc": 20}
    assert history_of(store, "another device").widest == {}
