"""Run a sweep: what is not in the store yet, as packs, on workers, into the store and its MLflow view."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from . import plan, schedule, track
from .cost import structure
from .job import Job, label
from .pack import Pack
from .record import Outcome
from .store import Done, Store
from .sweep import Sweep


class Observer(Protocol):
    """Told of a run's progress."""

    def planned(self, store: Store, plan: Plan) -> None:
        """Before the first pack."""

    def committed(self, outcome: Outcome, work: float) -> None:
        """After a pack is safe in the store."""

    def tracking(self, tracker: track.Tracker) -> None:
        """All packs are done; MLflow may not be."""


@dataclass(frozen=True)
class Plan:
    """A sweep against a store."""

    sweep: Sweep
    jobs: list[Job]
    done: int
    packs: list[Pack]
    estimate: plan.Estimate

    @property
    def to_run(self) -> int:
        """Jobs without results."""
        return len(self.jobs) - self.done


@dataclass(frozen=True)
class Summary:
    """How a run ended."""

    jobs: int
    done: int
    ran: int
    diverged: int
    failed: list[tuple[str, str]]  # what failed, and its traceback
    seconds: float
    mlflow_error: str | None

    @property
    def exit_code(self) -> int:
        """0 if every job is done, 3 if some failed, diverged or are missing."""
        return 3 if self.failed or self.diverged or self.done < self.jobs else 0


def make_plan(sweep: Sweep, store: Store, workers: int, done: Done | None = None) -> Plan:
    """What is done, and what is left as packs."""
    jobs = list(sweep.jobs())
    tests = tuple(label(task) for task in sweep.tests)
    todo = list(plan.pending(jobs, tests, store.done() if done is None else done))
    history = store.history(schedule.device_name())
    packs = plan.packs(todo, tuple(sweep.tests), history, workers, schedule.memory() / max(workers, 1))
    estimate = plan.estimate([pack.expected for pack in packs if pack.expected], workers)
    return Plan(sweep, jobs, len(jobs) - len(todo), packs, estimate)


class Silent:
    """An observer that says nothing."""

    def planned(self, store: Store, plan: Plan) -> None:
        """Nothing."""

    def committed(self, outcome: Outcome, work: float) -> None:
        """Nothing."""

    def tracking(self, tracker: track.Tracker) -> None:
        """Nothing."""


def run(
    sweep: Sweep,
    out: str,
    *,
    address: str | None = None,
    workers: int | None = None,
    mlflow: str | None = None,
    observer: Observer | None = None,
) -> Summary:
    """Run what a sweep still lacks in the store at `out`.

    address: a Ray cluster; left out, Ray starts on this machine.
    workers: how many; 0 runs in this process, without Ray.
    mlflow: a tracking URI; left out, SQLite in `out`; "off" for none.
    """
    begin = time.monotonic()
    observer = observer or Silent()
    store = Store(out)
    store.create()
    done = store.done()
    ready = make_plan(sweep, store, schedule.cores() if workers is None else max(1, workers), done)
    ids = {job.id for job in ready.jobs}
    store.want(sweep, [job.id for job in ready.jobs])
    observer.planned(store, ready)
    executor: schedule.Executor | None = None
    if ready.packs:
        executor = schedule.InProcess() if workers == 0 else schedule.OnRay(address, workers)
    tracker = _tracker(out, sweep, mlflow)
    if tracker and ready.done:
        known = ids & {job for job, _ in done}
        tracker.add({name: store.rows(name, known) for name in ("jobs", "results", "curves")})
    failed: list[tuple[str, str]] = []
    ran = 0

    def too_wide(pack: Pack) -> None:
        store.too_wide(schedule.device_name(), structure(pack.first), len(pack.jobs))

    try:
        if executor:
            cost = {j.id: p.expected.seconds / len(p.jobs) for p in ready.packs if p.expected for j in p.jobs}
            for outcome in schedule.outcomes(deque(ready.packs), executor, too_wide):
                store.commit(outcome, done)
                rows = outcome.tables["jobs"].to_pylist()
                failed += [
                    (f"{row['solver']} depth {row['depth']} seed {row['seed']}, job {row['job']}", row["reason"])
                    for row in rows
                    if row["status"] == "failed"
                ]
                ran += sum(row["status"] != "failed" for row in rows)
                observer.committed(outcome, sum(cost[row["job"]] for row in rows))
                if tracker:
                    tracker.add(outcome.tables)
    finally:
        if executor:
            executor.close()
    if tracker:
        observer.tracking(tracker)
        tracker.close()
    left = len(list(plan.pending(ready.jobs, tuple(label(task) for task in sweep.tests), done)))
    diverged = store.rows("jobs", ids)["status"].to_pylist().count("diverged")
    error = tracker.error if tracker else None
    return Summary(len(ready.jobs), len(ready.jobs) - left, ran, diverged, failed, time.monotonic() - begin, error)


def _tracker(out: str, sweep: Sweep, mlflow: str | None) -> track.Tracker | None:
    local = "://" not in out
    if mlflow == "off" or (mlflow is None and not local):
        return None
    artifacts = (Path(out).expanduser().absolute() / "artifacts").as_uri() if mlflow is None else None
    return track.Tracker(mlflow or track.default_uri(out), sweep.name, artifacts)
