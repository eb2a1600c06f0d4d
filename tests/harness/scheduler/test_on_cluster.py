"""A real cluster that is shared: by two sweeps, by cores and GPUs, with nodes that are told to end."""

from __future__ import annotations

import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
from ray._raylet import GcsClient  # type: ignore[attr-defined]  # compiled
from ray.autoscaler.v2 import utils

from lfombench.analysis.results import table
from lfombench.harness import PROTOCOLS, Job, load, run
from lfombench.harness.driver.checkpoints import CheckpointStore
from lfombench.harness.driver.options import Options
from lfombench.harness.driver.recorder import StoreRecorder
from lfombench.harness.driver.workers import SUBMITTED, Workers
from lfombench.harness.errors import UserError
from lfombench.harness.scheduler import nodes, schedule, view
from lfombench.harness.scheduler.attached import Attached
from lfombench.harness.scheduler.autoscaler import coming
from lfombench.harness.scheduler.facts import facts
from lfombench.harness.scheduler.on_ray import OnRay
from lfombench.harness.scheduler.packing import PlannedPack
from lfombench.harness.scheduler.resources import Resources
from lfombench.harness.store.store import Store
from lfombench.harness.training.checkpoint import Checkpoint
from lfombench.harness.training.pack import Pack, WorkOrder
from lfombench.solvers import LinearTransformer
from lfombench.tasks import LinearRegression
from tests.builders import NoRecord, two_packs
from tests.commands import words
from tests.nodes import Head, Node

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray")]

PATIENT = """\
import dataclasses, pathlib, time
from lfombench.solvers import ConjugateGradient
@dataclasses.dataclass(frozen=True, kw_only=True)
class Patient(ConjugateGradient):
    def iterates(self, params, problem):
        time.sleep(0.0 if pathlib.Path({go!r}).exists() else {seconds})
        yield from super().iterates(params, problem)
"""


def patient(folder: Path, name: str, packs: int, seconds: float) -> list[str]:
    """What starts a sweep of so many packs that take some seconds each, until a file says that they need not."""
    (folder / f"{name}_solver.py").write_text(PATIENT.format(go=str(folder / "go"), seconds=seconds))
    depths = ", ".join(str(depth) for depth in range(1, packs + 1))
    (folder / f"{name}.yaml").write_text(
        f"name: {name}\nprotocol: {{use: published, test_prompts: 64}}\n"
        "tasks: [linear_regression: {d: 3, n: 8}]\n"
        f"solvers: ['{name}_solver:Patient': {{depth: {{each: [{depths}]}}}}]\n"
    )
    return words("run", f"{name}.yaml", "--out", str(folder / name), "--mlflow", "off")


def test_a_second_sweep_gets_its_share_while_the_first_goes_on(head: Head, tmp_path, monkeypatch):
    """It died after 300 seconds, as the first one held all cores. Now it is done before the first one is."""
    packs = 40
    first_words = [*patient(tmp_path, "first", packs, 2.0), "--address", head.address]
    patient(tmp_path, "second", 2, 0.0)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)  # where workers look for modules
    with subprocess.Popen(first_words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as first:
        try:
            deadline = time.monotonic() + 120
            while not list((tmp_path / "first").glob("results/*.parquet")) and time.monotonic() < deadline:
                assert first.poll() is None, first.stdout.read()
                time.sleep(0.1)
            sweep, address = load(str(tmp_path / "second.yaml")), head.address
            second = run(sweep, str(tmp_path / "second"), address=address, priority=1, mlflow="off")
            before = first.poll()
            (tmp_path / "go").touch()
            told = first.communicate(timeout=200)[0]
        finally:
            first.kill()
    assert second.exit_code == 0, second
    assert before is None, told
    assert first.returncode == 0, told
    for name, jobs in (("first", packs), ("second", 2)):
        rows = table(str(tmp_path / name), "jobs").collect()
        assert rows["status"].to_list() == ["done"] * jobs


def test_gpus_and_cores_are_pools_of_their_own(head: Head, tmp_path, monkeypatch, caplog):
    """Of two nodes one counts two GPUs. PyTorch cannot use them: that is said once, and the node counts as cores. If it
    could, packs for GPUs would run there, and others beside them on what cores are left.
    """
    with Node(tmp_path, "gpus", "127.0.0.1", "--num-cpus=3", "--num-gpus=2", f"--address={head.address}"):
        executor = OnRay(head.address)
        try:
            assert [(pool.kind, pool.workers) for pool in executor.pools] == [("cpu", 5)]
            assert caplog.text.count("that PyTorch cannot use there: only its cores are used") == 1
            known = executor.nodes.known
            [name] = [name for name, node in executor.nodes.living.items() if node["Resources"].get("GPU")]
            known[name] = replace(known[name], gpus=("some GPU", "some GPU"), gpu_memory=8e9)
            pools = executor.nodes.pools()
            gpu, _ = pools
            assert (gpu.kind, gpu.device, gpu.workers, gpu.memory) == ("gpu", "some GPU", 3, 2e9)
            executor.resources = replace(executor.resources, gpu_fraction=1.0)
            started, seen = executor.crew.started, []

            def note(first: object) -> None:
                kind, actor = executor.crew.starting[first]
                started(first)
                seen.append((kind, executor.crew.at[actor]))

            monkeypatch.setattr(executor.crew, "started", note)
            planned = [PlannedPack(pack, pool="gpu") for pack in two_packs(2)]
            planned += [PlannedPack(pack, pool="cpu") for pack in (*two_packs(3), *two_packs(4))]
            finished = list(schedule.outcomes(planned, executor, NoRecord(), pools=pools))
        finally:
            executor.close()
    assert sum(outcome.jobs for _, outcome in finished) == 18
    assert {node for kind, node in seen if kind == "gpu"} == {name}
    assert "cpu" in {kind for kind, _ in seen}
    assert caplog.text.count("Ray gave a worker a GPU on") == 1


def test_what_no_node_has_is_said_at_once(head: Head, tmp_path, monkeypatch):
    """A label, a GPU; and a store that not every node sees. Nor has the cluster an autoscaler, though the process has
    seen another cluster with one of the second generation.
    """
    monkeypatch.setattr(utils, "cached_is_autoscaler_v2", True)
    attached = Attached(head.address, 0)
    try:
        assert coming(attached.ray) is None
        assert not utils.cached_is_autoscaler_v2

        def pools(file: str | None = None, **part: object) -> None:
            found = nodes.Nodes(attached.ray, Resources(**part), file)
            found.survey()
            found.pools()

        with pytest.raises(UserError, match=r"no node of the cluster has what was asked for: .* has 2 CPUs, 0 GPUs"):
            pools(labels={"zone": "a"})
        with pytest.raises(UserError, match="no node of the cluster has what was asked for"):
            pools(cpus=0)
        with pytest.raises(UserError, match="--out must be where every node of the cluster sees it"):
            pools(str(tmp_path / "elsewhere"))
    finally:
        attached.close()


def test_nodes_that_come_later_see_the_store_as_well(head: Head, tmp_path, monkeypatch):
    """The file that tells them was gone once the first ones had seen it: those got no work."""
    monkeypatch.setenv(SUBMITTED, "1")
    store = Store(str(tmp_path / "out"))
    store.create()
    workers = Workers("late", store, Options(address=head.address))
    try:
        workers.join()
        assert [pool.workers for pool in workers.pools()] == [2]
        executor = workers.executor
        assert isinstance(executor, OnRay)
        assert executor.nodes
        file = executor.nodes.file
        assert file
        assert facts(file, False).sees
    finally:
        workers.close()
    assert not Path(file).exists()


class Recorder(StoreRecorder):
    """Keeps the checkpoints that packs went on from, and knows whether one has trained."""

    resumed: list[Checkpoint | None]
    trained = False

    def keep(self, pack: Pack, checkpoint: Checkpoint) -> None:
        super().keep(pack, checkpoint)
        self.trained |= checkpoint.first > 0

    def order(self, planned: PlannedPack) -> WorkOrder:
        made = super().order(planned)
        self.resumed = [*getattr(self, "resumed", []), made.resume]
        return made


def test_a_node_that_is_to_end_hands_its_pack_back_at_a_checkpoint(head: Head, tmp_path, monkeypatch):
    """As a spot instance is told two minutes before; the pack goes on elsewhere, from where it was."""
    monkeypatch.setattr(view, "EVERY", 0.5)
    task, solver = LinearRegression(d=5, n=20), LinearTransformer(depth=2, preconditioner="full")
    protocol = replace(PROTOCOLS["published"], steps=100_000, batch=2048, test_prompts=64)
    pack = Pack((Job.of(task=task, solver=solver, protocol=protocol, seed=0),))
    store = Store(str(tmp_path / "out"))
    store.create()
    recorder = Recorder(store, CheckpointStore(store.place))
    recorder.every = 0.5
    with Node(tmp_path, "spot", "127.0.0.1", "--num-cpus=1", f"--address={head.address}", "--labels=spot=yes"):
        executor = OnRay(head.address, resources=Resources(labels={"spot": "yes"}))
        told = []

        def drain() -> bool:
            """Once the pack has trained: from now on it may run anywhere, and not there."""
            if recorder.trained and not told:
                told.append(True)
                executor.nodes.resources = executor.resources = Resources()
                [name] = executor.nodes.known
                preemption, deadline = 2, int(time.time() + 60) * 1000
                assert GcsClient(head.address).drain_node(name, preemption, "it is a spot instance", deadline)[0]
            return False

        try:
            [(_, outcome)] = schedule.outcomes([PlannedPack(pack)], executor, recorder, schedule.Limits(stop=drain))
        finally:
            executor.close()
    assert outcome.jobs == 1
    first, second = recorder.resumed
    assert first is None
    assert second is not None
    assert second.first > 0
