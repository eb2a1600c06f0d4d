"""What the scheduler costs: jobs that sleep, against Ray Tune; jobs that do nothing; work that a dead driver repeats.

Everything between a job and its rows on disk is the harness's own: Ray, workers, the ledger, MLflow where it is said.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

from idle import Blank, Idle
from ledger import parts
from timing import Row, spread

from lfombench.analysis.results import table
from lfombench.harness import PROTOCOLS, Job
from lfombench.harness.driver.checkpoints import CheckpointStore
from lfombench.harness.driver.committer import Committer
from lfombench.harness.driver.observer import Silent
from lfombench.harness.driver.recorder import AfterCommit, StoreRecorder
from lfombench.harness.scheduler.on_ray import OnRay
from lfombench.harness.scheduler.packing import PlannedPack
from lfombench.harness.scheduler.pools import Pool
from lfombench.harness.scheduler.progress import Progress
from lfombench.harness.scheduler.schedule import Limits, outcomes
from lfombench.harness.spec.job import Case
from lfombench.harness.store import queries
from lfombench.harness.store.manifest import Manifest, path_of
from lfombench.harness.store.store import Store
from lfombench.harness.tracking.follow import Follower
from lfombench.harness.tracking.uris import where
from lfombench.harness.training.pack import CHECKPOINT_EVERY, Pack

HERE = Path(__file__).parent
CPUS = 16  # logical ones, whatever the machine has: sleeping takes none
HALF = """\
name: half
protocol: {use: published, steps: 6000, batch: 256, test_prompts: 64}
seeds: 4
tasks: [linear_regression: {d: 5, n: 20}]
solvers:
  - "counted:Counted": {preconditioner: full, depth: {each: [1, 2, 3, 4]}}
"""


class Run:
    """Jobs of one case through Ray into a store, as `lfombench run` does it with packs of a given width."""

    def __init__(self, folder: Path, jobs: int, width: int, seconds: float = 0.0, mlflow: bool = False) -> None:
        task, protocol = Blank(d=1, n=2), replace(PROTOCOLS["published"], test_prompts=64)
        case = Case(task=task, solver=Idle(depth=1, seconds=seconds), protocol=protocol)
        self.packs = [PlannedPack(Pack(part)) for part in parts((Job(case, seed) for seed in range(jobs)), width)]
        self.folder, self.jobs, self.mlflow = folder, jobs, mlflow

    def go(self, executor: OnRay, pools: Sequence[Pool] = ()) -> None:
        """All of them, until everything is written. pools: of the workers, where packs are for several."""
        store = Store(str(self.folder))
        store.create()
        checkpoints, progress = CheckpointStore(store.place), Progress("idle")
        ids = [job.id for planned in self.packs for job in planned.pack.jobs]
        store.write(path_of("idle"), Manifest(name="idle", jobs=ids).content)
        shown_at = where(store.out, None, print) if self.mlflow else None
        follower = Follower(store.out, shown_at) if shown_at else None
        finished = AfterCommit(progress, checkpoints, Silent())
        self.memory = [private()]
        with Committer(store) as committer:
            recorder = StoreRecorder(store, checkpoints)
            for planned, outcome in outcomes(self.packs, executor, recorder, Limits(deadline=600.0), pools=pools):
                committer.put(planned, outcome)
                finished.take(committer.committed())
                self.memory.append(private())
        finished.take(committer.committed())
        checkpoints.flush()
        if follower:
            follower.finish(lambda one: None)
            assert follower.error is None, follower.error
        assert progress.ran == self.jobs
        assert queries.done(store.place).keys() == set(ids)


def private() -> float:
    """Megabytes of memory of this process alone: without Ray's object store, which is mapped into it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) / 1e3


def noop(jobs: int = 100_000, rounds: int = 5) -> list[Row]:
    """Jobs that do nothing, in packs of 64; how the driver grows from the first round's second tenth to its last."""
    rates = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        executor = OnRay()
        try:
            first = Run(folder / "first", 640, 64)
            await_workers(executor, first)
            first.go(executor)
            runs = [Run(folder / f"noop {i}", jobs, 64) for i in range(rounds)]
            for run in runs:
                begin = time.perf_counter()
                run.go(executor)
                rates.append(jobs / (time.perf_counter() - begin))
        finally:
            executor.close()
        files = sum(path.is_file() for path in runs[0].folder.rglob("*"))
    memory = runs[0].memory
    tenth = len(memory) // 10
    early, late = median(memory[tenth : 2 * tenth]), median(memory[-tenth:])
    grown, most = late - early, max(memory) - early
    work = f"{jobs:,} no-op jobs through Ray, packs of 64"
    workers = executor.pools[0].workers
    cores = f"{workers} workers and the driver on as many cores; every job is tested on 64 prompts of zeros"
    held = f"from the second tenth to the last, medians; {most:.0f} MB at moments, while files are merged"
    note = f"{cores}; {spread(rates)}"
    return [
        Row(f"{work}, committed", "jobs a second", None, median(rates), None, None, None, 10_000, note),
        Row(f"{work}, growth of the driver", "MB", None, grown, None, None, None, 50, held),
        Row(f"{work}, files at the end", "files", None, files, None, None, None, 100, "Tune: four a trial"),
    ]


def await_workers(executor: OnRay, run: Run) -> None:
    """Until all are up that a run has use for."""
    executor.fit(run.packs)
    while sum(executor.idle().values()) < min(executor.pools[0].workers, len(run.packs)):
        executor.poll(0.1)


def sleeping(folder: Path, jobs: int = 1600) -> Row:
    """Jobs of one second on 16 logical CPUs, MLflow and all, from before Ray starts until all is written."""
    begin = time.perf_counter()
    run = Run(folder / "sleep", jobs, 4, 1.0, mlflow=True)
    executor = OnRay(workers=CPUS)
    try:
        run.go(executor)
    finally:
        executor.close()
    ours = time.perf_counter() - begin
    theirs = _tune(folder, jobs)
    least = jobs / CPUS
    note = f"least possible {least:.0f} s; over it: Tune {theirs - least:.0f} s, ours {ours - least:.0f} s"
    name = f"{jobs} jobs of 1 s (sleep), {CPUS} logical CPUs, all logging, against Ray Tune"
    return Row(name, "s", theirs, ours, theirs / ours, None, None, 1.016 * least, note)


def _tune(folder: Path, jobs: int) -> float:
    """With its actors kept from trial to trial, which is not its default: a process for each is far slower."""
    import ray
    from ray import tune

    begin = time.perf_counter()
    ray.init("local", num_cpus=CPUS, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    options = tune.RunConfig(storage_path=str(folder), name="tune", verbose=0)

    def trial(config: dict[str, int]) -> None:
        time.sleep(1.0)
        tune.report({"mse": 0.0})

    space, reused = {"seed": tune.grid_search([*range(jobs)])}, tune.TuneConfig(reuse_actors=True)
    found = tune.Tuner(trial, param_space=space, tune_config=reused, run_config=options).fit()
    seconds = time.perf_counter() - begin
    assert len(found) == jobs
    assert not found.errors, found.errors
    ray.shutdown()
    return seconds


def killed(folder: Path) -> Row:
    """kill -9 of the driver at half, and the same command again: training steps that were done twice."""
    (folder / "half.yaml").write_text(HALF)

    def start(out: str) -> subprocess.Popen[bytes]:
        environment = os.environ | {"COUNTED": str(folder / out), "PYTHONPATH": str(HERE)}
        command = [sys.executable, "-m", "lfombench", "run", str(folder / "half.yaml"), "--mlflow", "off"]
        command += ["--out", str(folder / f"{out}.store")]
        return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)

    begin = time.perf_counter()
    assert start("calm").wait() == 0
    calm = time.perf_counter() - begin
    total = counted(folder / "calm")
    first = start("killed")
    while counted(folder / "killed") < total / 2:
        time.sleep(0.05)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert start("killed").wait() == 0
    extra = counted(folder / "killed") - total
    seconds = extra / total * calm
    boards = [
        table(str(folder / f"{out}.store"), "results").collect().sort("job", "step") for out in ("calm", "killed")
    ]
    assert boards[0].equals(boards[1])
    note = f"{extra} of {total} steps of packs, in a run of {calm:.0f} s; the results are equal to the bit"
    work = "work done twice after kill -9 of the driver at half"
    return Row(work, "s a worker", None, seconds, None, None, None, CHECKPOINT_EVERY, note)


def counted(path: Path) -> int:
    """How often workers have run it."""
    return path.stat().st_size if path.exists() else 0


def rows() -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        return [sleeping(folder), killed(folder)]


if __name__ == "__main__":
    for row in [*noop(), *rows()]:
        print(row)
