"""The thread that commits: at once where nothing was committed just now, else together."""

from __future__ import annotations

import time
from dataclasses import replace

import torch

from lfombench.harness import PROTOCOLS, Job
from lfombench.harness.driver.committer import Committer
from lfombench.harness.scheduler.packing import PlannedPack
from lfombench.harness.store import maintenance, queries
from lfombench.harness.store.outcome import Outcome
from lfombench.harness.store.store import Store
from lfombench.harness.training.execute import execute
from lfombench.harness.training.pack import Pack, WorkOrder
from lfombench.solvers import ConjugateGradient
from lfombench.tasks import LinearRegression

QUICK = replace(PROTOCOLS["published"], test_prompts=64)


def pack(seed: int) -> PlannedPack:
    job = Job.of(task=LinearRegression(d=2, n=4), solver=ConjugateGradient(depth=1), protocol=QUICK, seed=seed)
    return PlannedPack(Pack((job,)))


def finish(planned: PlannedPack) -> Outcome:
    return execute(WorkOrder(planned.pack), torch.device("cpu"))


def test_what_comes_fast_is_committed_together_and_nothing_waits_for_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(maintenance, "compact", lambda *_: False)
    store = Store(str(tmp_path / "out"))
    store.create()
    ready = [(one, finish(one)) for one in map(pack, range(4))]
    begin = time.monotonic()
    with Committer(store, gather=60.0) as committing:
        committing.put(*ready[0])
        committing.flush()
        assert len(queries.done(store.place)) == 1
        for one in ready[1:]:
            committing.put(*one)
        time.sleep(0.2)
        assert len(queries.done(store.place)) == 1
    assert time.monotonic() - begin < 30
    assert len(queries.done(store.place)) == 4
    assert [file.rows for file in store.snapshot.files["results"]] == [2, 6]
    assert [one.pack.id for one, _ in committing.committed()] == [one.pack.id for one, _ in ready]


def test_a_pack_after_a_pause_does_not_wait(tmp_path):
    """With the next one still far away."""
    store = Store(str(tmp_path / "out"))
    store.create()
    with Committer(store, gather=0.1) as committing:
        for seed in range(2):
            one = pack(seed)
            outcome = finish(one)
            time.sleep(0.1)
            committing.put(one, outcome)
            deadline = time.monotonic() + 10
            while len(queries.done(store.place)) == seed and time.monotonic() < deadline:
                time.sleep(0.01)
            assert len(queries.done(store.place)) == seed + 1
