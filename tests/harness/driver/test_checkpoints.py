"""Checkpoints in a store: kept while a pack runs, gone on from, and deleted when its jobs are done."""

from __future__ import annotations

from dataclasses import replace

import torch

from lfombench.harness import PROTOCOLS, Job, Sweep, run
from lfombench.harness.driver.checkpoints import CheckpointStore
from lfombench.harness.scheduler.packing import PlannedPack
from lfombench.harness.store.filesystem import place
from lfombench.harness.training import execute
from lfombench.harness.training.checkpoint import Checkpoint
from lfombench.harness.training.pack import Pack, WorkOrder
from lfombench.solvers import LinearTransformer
from lfombench.tasks import LinearRegression

PROTOCOL = replace(PROTOCOLS["rigorous"], steps=60, batch=4, learning_rates=(0.1,), test_prompts=64)
TASK = LinearRegression(d=2, n=3)
LT = LinearTransformer(depth=1, preconditioner="full")
CPU = torch.device("cpu")


def pack(seeds) -> Pack:
    return Pack(tuple(Job.of(task=TASK, solver=LT, protocol=PROTOCOL, seed=seed) for seed in seeds))


def finish(order: WorkOrder):
    return execute.execute(order, CPU)


def halted(given: Pack) -> list[Checkpoint]:
    """A checkpoint of a pack in the middle of its training."""
    stages = execute.stages(WorkOrder(given, stride=20), CPU)
    next(stages)
    return [next(stages)()]


def test_checkpoints_keep_what_runs_and_only_that(tmp_path, monkeypatch):
    """Checkpoints of two packs; their halves, and both as one, go on from them; what is done leaves no file."""
    checkpoints = CheckpointStore(place(str(tmp_path)))
    packs = [pack(range(4)), pack(range(4, 6))]
    for one in packs:
        checkpoints.keep(one, halted(one)[0])
    checkpoints.flush()
    assert len(checkpoints.place.names("checkpoints")) == 2
    again = CheckpointStore(place(str(tmp_path)))
    both = Pack((*packs[1].jobs, *packs[0].jobs))
    whole = {
        row["job"]: row["mse"] for row in finish(WorkOrder(both)).tables["results"].to_pylist() if row["step"] == 1
    }
    for given in (*(half.pack for half in PlannedPack(packs[0]).halves()), both, packs[1]):
        resumed = WorkOrder(given, resume=again.resume(given))
        assert resumed.resume.first == 20
        for row in finish(resumed).tables["results"].to_pylist():
            if row["step"] == 1:
                assert row["mse"] == whole[row["job"]]
    assert again.resume(Pack((*both.jobs, *pack([7]).jobs))) is None
    again.drop(job.id for job in packs[0].jobs[:3])
    again.flush()
    assert len(again.place.names("checkpoints")) == 2
    again.drop(job.id for job in packs[0].jobs)
    again.flush()
    assert again.place.names("checkpoints") == [f"{packs[1].id}.safetensors"]
    path = tmp_path / "checkpoints" / f"{packs[1].id}.safetensors"
    path.write_bytes(path.read_bytes()[:200])
    assert CheckpointStore(place(str(tmp_path))).resume(packs[1]) is None
    assert again.resume(packs[1]) is None
    again.flush()
    assert again.place.names("checkpoints") == []


def test_other_code_does_not_go_on_from_a_checkpoint(tmp_path, monkeypatch):
    checkpoints = CheckpointStore(place(str(tmp_path)))
    given = pack(range(2))
    checkpoints.keep(given, halted(given)[0])
    checkpoints.flush()
    assert checkpoints.resume(given).first == 20
    monkeypatch.setattr("lfombench.harness.driver.checkpoints.code", lambda case: "another")
    assert CheckpointStore(place(str(tmp_path))).resume(given) is None


def test_a_checkpoint_of_jobs_that_are_done_is_swept_up(tmp_path):
    """As a driver leaves it that dies between a commit and that."""
    given = pack(range(2))
    sweep = Sweep(name="x", tasks=[TASK], solvers=[LT], protocols=[given.first.protocol], seeds=range(2))
    assert run(sweep, str(tmp_path), workers=0, mlflow="off").exit_code == 0
    checkpoints = CheckpointStore(place(str(tmp_path)))
    checkpoints.keep(given, halted(given)[0])
    checkpoints.flush()
    assert checkpoints.place.names("checkpoints")
    assert run(sweep, str(tmp_path), workers=0, mlflow="off").ran == 0
    assert checkpoints.place.names("checkpoints") == []
