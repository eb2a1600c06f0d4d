"""Workers on a real Ray: killed, unable to import, two on one GPU."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lfombench.harness import PROTOCOLS, Sweep, run
from lfombench.harness.errors import UserError
from lfombench.harness.scheduler import schedule
from lfombench.harness.scheduler.on_ray import OnRay
from lfombench.harness.scheduler.packing import PlannedPack
from lfombench.harness.spec.labels import find
from lfombench.harness.training.pack import Pack
from lfombench.solvers import ConjugateGradient, LinearTransformer
from lfombench.tasks import LinearRegression
from tests.builders import NoRecord, two_packs

QUICK = replace(PROTOCOLS["rigorous"], steps=2, batch=4, learning_rates=(0.1,), test_prompts=64)


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_a_solver_that_workers_cannot_import_is_a_failure_that_says_so(head, tmp_path, monkeypatch):
    """Its workers stay: other jobs run on them."""
    (tmp_path / "only_here.py").write_text(
        "import dataclasses\n"
        "from lfombench.solvers import ConjugateGradient\n"
        "@dataclasses.dataclass(frozen=True, kw_only=True)\n"
        "class Own(ConjugateGradient): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    own = find("solver", "only_here:Own")
    sweep = Sweep(
        name="own",
        tasks=[LinearRegression(d=2, n=3)],
        solvers=[own(depth=1), own(depth=2), own(depth=3), ConjugateGradient(depth=1)],
        protocols=[QUICK],
        seeds=range(2),
    )
    summary = run(sweep, str(tmp_path / "out"), address=head.address, workers=2, mlflow="off")
    assert (summary.ran, len(summary.failed), summary.exit_code) == (2, 6, 3)
    assert "No module named 'only_here'" in summary.failed[0][1]


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_a_killed_worker_loses_nothing(head):
    """kill -9 of every actor under its first pack: the packs are run again, and no job is there twice."""
    sweep = Sweep(
        name="killed",
        tasks=[LinearRegression(d=2, n=3)],
        solvers=[LinearTransformer(depth=depth, preconditioner="full") for depth in (1, 2, 3)],
        protocols=[replace(QUICK, steps=300, batch=64)],
        seeds=range(2),
    )
    others = _workers()
    killed: list[int] = []

    def kill() -> None:
        while not killed and not finished.wait(0.05):
            for pid in _workers() - others:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

    finished, killer = threading.Event(), threading.Thread(target=kill)
    executor = OnRay(head.address, workers=2)
    try:
        killer.start()
        packs = [PlannedPack(Pack(tuple(list(sweep.jobs())[i : i + 2]))) for i in (0, 2, 4)]
        found = [
            row
            for _, outcome in schedule.outcomes(packs, executor, NoRecord())
            for row in outcome.tables["jobs"].to_pylist()
        ]
    finally:
        finished.set()
        killer.join()
        executor.close()
    assert killed
    assert [row["status"] for row in found] == ["done"] * 6
    assert len({row["job"] for row in found}) == 6


def _workers() -> set[int]:
    """Processes that are an actor of ours, by the title Ray gives them."""
    found = set()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                if b"ray::_Worker.run" in (folder / "cmdline").read_bytes():
                    found.add(int(folder.name))
    return found


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_a_gpu_that_pytorch_cannot_use_is_said_once_and_its_machine_has_its_cores(monkeypatch, caplog):
    """It made every core wait for its share of the GPU."""
    monkeypatch.setenv("RAY_OVERRIDE_RESOURCES", '{"GPU": 1, "CPU": 2}')
    executor = OnRay(workers=2)
    try:
        assert [(pool.kind, pool.workers) for pool in executor.pools] == [("cpu", 2)]
        packs = [PlannedPack(pack) for pack in two_packs(2)]
        executor.fit(packs)
        begin = time.monotonic()
        while executor.idle()["cpu"] < 2:  # both start, as neither waits for a share
            assert time.monotonic() - begin < 120
            executor.poll(0.1)
        finished = list(schedule.outcomes(packs, executor, NoRecord()))
    finally:
        executor.close()
    assert [row["status"] for _, outcome in finished for row in outcome.tables["jobs"].to_pylist()] == ["done"] * 4


@pytest.mark.parametrize(
    ("free", "room", "coming", "ends"),
    [
        (0, 4, None, False),  # others have all cores: it waits as long as they do
        (2, 4, None, True),  # there is room, and still none starts
        (0, 0, None, True),  # no node may get work, as where the others have died
        (0, 0, 1, False),  # one is on its way
    ],
)
def test_a_run_without_workers_waits_for_what_can_come_and_for_nothing_else(free, room, coming, ends, caplog):
    """Its clock is the test's; the nodes are made up."""
    now = [0.0]
    executor: Any = object.__new__(OnRay)
    executor.crew = SimpleNamespace(clock=lambda: now[0], heard=0.0, busy={}, held=[], free={"cpu": []})
    known = {"id": "node7: PyTorch is 1.0 there"}
    view = SimpleNamespace(coming=coming)
    executor.nodes = SimpleNamespace(view=view, free=free, left_out=known, room=lambda per_gpu: {"gpu": 0, "cpu": room})
    executor.fair, executor.said, executor.per_gpu = None, False, 1

    def wait() -> None:
        for _ in range(1000):
            now[0] += 1.0
            executor._check()

    if ends:
        with pytest.raises(UserError, match=rf"within 300 seconds, and {free} CPUs are free\n  node7: PyTorch is 1.0"):
            wait()
        assert now[0] < 310
    else:
        wait()
    assert caplog.text.count("no worker has started yet, and no CPU of the cluster is free") == int(
        not ends and coming is None
    )
