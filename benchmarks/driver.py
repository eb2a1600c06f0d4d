"""What a driver of many workers costs: work handed out and committed, checkpoints, a plan beside another driver."""

from __future__ import annotations

import sys
import tempfile
import time
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median
from unittest.mock import patch

import torch
from idle import Blank, Idle
from ledger import parts
from timing import Row, spread

from lfombench.harness import PROTOCOLS, Job, Sweep
from lfombench.harness.driver.checkpoints import CheckpointStore
from lfombench.harness.driver.committer import Committer
from lfombench.harness.driver.observer import Silent
from lfombench.harness.driver.plan import make_plan
from lfombench.harness.driver.recorder import AfterCommit, StoreRecorder
from lfombench.harness.scheduler.faults import Event
from lfombench.harness.scheduler.packing import PlannedPack
from lfombench.harness.scheduler.progress import Progress
from lfombench.harness.scheduler.schedule import POLL, Limits, outcomes
from lfombench.harness.scheduler.sharing import Shares
from lfombench.harness.spec.job import Case
from lfombench.harness.store.filesystem import place
from lfombench.harness.store.lease import take
from lfombench.harness.store.manifest import Manifest, path_of
from lfombench.harness.store.outcome import Outcome
from lfombench.harness.store.store import Store
from lfombench.harness.training import train
from lfombench.harness.training.execute import execute
from lfombench.harness.training.pack import Pack, WorkOrder
from lfombench.solvers import ConjugateGradient, LinearTransformer
from lfombench.tasks import LinearRegression

sys.path.append(str(Path(__file__).parents[1]))
from tests.buckets import s3


class Instant:
    """Workers that are done at once, with results that were made before; the executor's contract."""

    def __init__(self, workers: int, results: Mapping[str, Outcome]) -> None:
        self.workers, self.results = {"cpu": workers}, results
        self.done: deque[tuple[int, Event]] = deque()

    def fit(self, packs: Collection[PlannedPack]) -> None:
        pass

    def expect(self, waiting: Mapping[str, int]) -> None:
        pass

    def idle(self) -> dict[str, int]:
        return {"cpu": self.workers["cpu"] - len(self.done)}

    def start(self, key: int, order: WorkOrder, kind: str) -> None:
        self.done.append((key, self.results[order.pack.id]))

    def poll(self, seconds: float) -> list[tuple[int, Event]]:
        return [self.done.popleft()] if self.done else []

    def kill(self, key: int) -> None:
        pass

    def pause(self) -> None:
        pass

    def close(self) -> None:
        pass


def driven(folder: Path, jobs: int = 100_000, workers: int = 800, rounds: int = 5) -> Row:
    """The driver alone: what it takes to hand out packs, and to commit what comes back."""
    task, protocol = Blank(d=1, n=2), replace(PROTOCOLS["published"], test_prompts=64)
    case = Case(task=task, solver=Idle(depth=1), protocol=protocol)
    packs = [Pack(part) for part in parts((Job(case, seed) for seed in range(jobs)), 64)]
    results = {pack.id: execute(WorkOrder(pack), torch.device("cpu")) for pack in packs}
    taken = []
    for i in range(rounds):
        store, progress = Store(str(folder / f"driven {i}")), Progress("idle")
        store.create()
        checkpoints = CheckpointStore(store.place)
        finished = AfterCommit(progress, checkpoints, Silent())
        begin = time.process_time()
        with Committer(store) as committer:
            recorder = StoreRecorder(store, checkpoints)
            planned = map(PlannedPack, packs)
            for one, outcome in outcomes(planned, Instant(workers, results), recorder, Limits()):
                committer.put(one, outcome)
                finished.take(committer.committed())
        finished.take(committer.committed())
        taken.append(1e6 * (time.process_time() - begin) / jobs)
        assert progress.ran == jobs
    work = f"the driver of {workers} pretended workers, {jobs:,} jobs that do nothing, packs of 64, committed"
    note = f"all of its threads; {spread(taken)}"
    return Row(work, "us of processor a job", None, median(taken), None, None, None, 30, note)


def checkpointed(packs: int = 3200) -> Row:
    """The state of thousands of packs, which must not hold up the one thread that schedules."""
    protocol = replace(PROTOCOLS["published"], steps=10, batch=8, test_prompts=64)
    solver, task = LinearTransformer(depth=4, preconditioner="full"), LinearRegression(d=5, n=20)
    jobs = [Job.of(task=task, solver=solver, protocol=protocol, seed=seed) for seed in range(packs)]
    stages = train.train(WorkOrder(Pack((jobs[0],))), torch.device("cpu"))
    state = next(stages)()
    with s3() as cloud, patch.dict("os.environ", cloud.environment):
        checkpoints = CheckpointStore(place(cloud.uri("checkpoints")))
        holds, begin = [], time.perf_counter()
        for job in jobs:
            pack = Pack((job,))
            state = replace(state, jobs=[job.id])
            before = time.perf_counter()
            checkpoints.keep(pack, state)
            holds.append(time.perf_counter() - before)
        asked = time.perf_counter() - begin
        checkpoints.flush()
        took = time.perf_counter() - begin
        written = len(place(cloud.uri("checkpoints")).names("checkpoints"))
    assert written == packs, written
    note = (
        f"all {packs:,} asked for in {asked:.1f} s, and written {took:.0f} s later by moto's server on the same cores; "
        f"goal: the {POLL:g} s for which the scheduler sleeps in any case"
    )
    work = f"checkpoints of {packs:,} packs to S3: the longest that one holds up the scheduler"
    return Row(work, "ms", None, 1000 * max(holds), None, None, None, 1000 * POLL, note)


def planned(folder: Path, jobs: int = 1_000_000, running: int = 50_000) -> Row:
    """A second driver on a store, whose other one runs thousands of the same jobs."""
    protocol = replace(PROTOCOLS["published"], test_prompts=64)
    solvers = [ConjugateGradient(depth=depth) for depth in range(1, 11)]
    tasks = [LinearRegression(d=5, n=n) for n in range(5, 25)]
    seeds = range(jobs // len(solvers) // len(tasks))
    sweep = Sweep(name="large", tasks=tasks, solvers=solvers, protocols=[protocol], seeds=seeds)
    store = Store(str(folder / "planned"))
    store.create()
    ids = [job.id for job in sweep.jobs()]
    store.write(path_of("large"), Manifest(name="large", jobs=ids).content)
    with take(store.place, "large") as first, take(store.place, "large", join=True) as second:
        first.announce(running=ids[:running])
        first.hurry()
        shares = Shares(second, store)
        deadline = time.monotonic() + 60
        while len(shares.elsewhere()) < running and time.monotonic() < deadline:
            second.hurry()
            time.sleep(0.2)
        assert len(shares.elsewhere()) == running
        begin = time.perf_counter()
        plan = make_plan(sweep, store, owns=shares.owns)
        took = time.perf_counter() - begin
    assert plan.jobs == len(ids)
    assert running < plan.elsewhere < jobs
    note = f"{plan.to_run:,} jobs in {len(plan.packs):,} packs are its own, {plan.elsewhere:,} are the other driver's"
    work = f"plan of {jobs:,} jobs beside a driver that runs {running:,} of them"
    return Row(work, "s", None, took, None, None, None, 60, note)


def rows() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        yield checkpointed()  # first: what the others leave in memory is looked through for garbage, half a second long
        yield driven(folder)
        yield planned(folder)


if __name__ == "__main__":
    for row in rows():
        print(row, flush=True)
