"""Run a sweep: what is not in the store yet, as packs, on workers, into the store and its MLflow view."""

from __future__ import annotations

import json
import time
from collections import deque
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

from . import plan, schedule, track
from .audit import TOLERANCE, Audit, again_as_written
from .cost import structure
from .job import Job
from .pack import Pack
from .profile import Span, chrome, shares, span, taken
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
    entries: list[plan.Entry]
    done: int
    packs: list[Pack]
    estimate: plan.Estimate

    @property
    def jobs(self) -> list[Job]:
        """Every job once."""
        return [job for job, _ in self.entries]

    @property
    def to_run(self) -> int:
        """Jobs without results."""
        return len(self.entries) - self.done


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
    audit: Audit | None = None
    profile: dict[str, float] | None = None  # seconds of all workers, by what they went to

    @property
    def exit_code(self) -> int:
        """0 if every job is done, 3 if some failed, diverged or are missing, or an audit found them changed."""
        audited = self.audit is None or self.audit.passed
        return 0 if audited and not self.failed and not self.diverged and self.done == self.jobs else 3


def make_plan(sweep: Sweep, store: Store, workers: int, done: Done | None = None) -> Plan:
    """What is done, and what is left as packs."""
    entries = list(sweep.entries())
    todo = list(plan.pending(entries, store.done() if done is None else done))
    history = store.history(schedule.device_name())
    packs = plan.packs(todo, history, workers, schedule.memory() / max(workers, 1))
    estimate = plan.estimate([pack.expected for pack in packs if pack.expected], workers)
    return Plan(sweep, entries, len(entries) - len(todo), packs, estimate)


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
    audit: float = 0.0,
    profile: bool = False,
    observer: Observer | None = None,
) -> Summary:
    """Run what a sweep still lacks in the store at `out`.

    address: a Ray cluster; left out, Ray starts on this machine.
    workers: how many; 0 runs in this process, without Ray.
    mlflow: a tracking URI; left out, SQLite in `out`; "off" for none.
    audit: a share of the sweep's jobs to run again, alone and as written, and to compare.
    profile: note where time goes, in profile/NAME.json; measures the parts of each structure's training step as well.
    """
    begin = time.monotonic()
    observer = observer or Silent()
    store = Store(out)
    store.create()
    done = store.done()
    ready = make_plan(sweep, store, schedule.lanes() if workers is None else max(1, workers), done)
    ids = {job.id for job in ready.jobs}
    store.want(sweep)
    observer.planned(store, ready)
    executor: schedule.Executor | None = None
    if ready.packs or audit:
        executor = schedule.InProcess() if workers == 0 else schedule.OnRay(address, workers)
    tracker = _tracker(out, sweep, mlflow)
    if tracker and ready.done:
        known = ids & {job for job, _ in done}
        tracker.add({name: store.rows(name, known) for name in ("jobs", "results", "curves")})
    failed: list[tuple[str, str]] = []
    ran = 0
    spans: list[Span] = []
    audited: Audit | None = None
    elapsed = 0.0

    def too_wide(pack: Pack) -> None:
        store.too_wide(schedule.device_name(), structure(pack.first), len(pack.jobs))

    try:
        if executor:
            cost = {j.id: p.expected.seconds / len(p.jobs) for p in ready.packs if p.expected for j in p.jobs}
            first = {pack.first.structure: pack for pack in reversed(ready.packs)}
            queue = deque(replace(p, profiled=profile and first[p.first.structure] is p) for p in ready.packs)
            for outcome in schedule.outcomes(queue, executor, too_wide):
                with span("commit"):
                    store.commit(outcome, done)
                spans += [*outcome.spans, *taken(outcome.pack, "")]
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
            elapsed = time.monotonic() - begin
            if audit:
                audited = _audit(ready, store, executor, audit)
    finally:
        if executor:
            executor.close()
    if tracker:
        observer.tracking(tracker)
        tracker.close()
    left = len(list(plan.pending(ready.entries, done)))
    diverged = store.rows("jobs", ids)["status"].to_pylist().count("diverged")
    error = tracker.error if tracker else None
    shared = None
    if profile and executor:
        store.write(f"profile/{sweep.name}.json", chrome(spans))
        shared = shares(spans, executor.workers, elapsed)
    seconds = time.monotonic() - begin
    return Summary(len(ready.jobs), len(ready.jobs) - left, ran, diverged, failed, seconds, error, audited, shared)


def _audit(ready: Plan, store: Store, executor: schedule.Executor, share: float) -> Audit:
    """Run a share of the jobs again, and keep what came of it beside the sweep."""

    def again(packs: list[Pack]) -> list[dict[str, Any]]:
        done = schedule.outcomes(deque(packs), executor, lambda pack: None)
        return [row for outcome in done for row in outcome.tables["results"].to_pylist()]

    found = again_as_written(ready.entries, share, lambda ids: store.rows("results", ids).to_pylist(), again)
    store.write(f"audits/{ready.sweep.name}.json", json.dumps(asdict(found) | {"tolerance": TOLERANCE}))
    return found


def _tracker(out: str, sweep: Sweep, mlflow: str | None) -> track.Tracker | None:
    local = "://" not in out
    if mlflow == "off" or (mlflow is None and not local):
        return None
    artifacts = (Path(out).expanduser().absolute() / "artifacts").as_uri() if mlflow is None else None
    return track.Tracker(mlflow or track.default_uri(out), sweep.name, artifacts)
