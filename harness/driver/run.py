"""Run a sweep: what is not in the store yet, as packs, on workers, into the store and its MLflow view."""

from __future__ import annotations

import functools
import json
import logging
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..scheduler import schedule
from ..scheduler.executors import Executor, InProcess, OnRay, lanes
from ..scheduler.progress import Progress
from ..scheduler.schedule import Limits
from ..scheduler.sharing import Shares
from ..spans import Span, chrome
from ..spans import shares as shares_of
from ..spec.labels import label
from ..spec.sweep import Sweep
from ..store import lease, maintenance
from ..store.manifest import skip, want
from ..store.store import Store
from ..tracking.tracker import Tracker, default_uri
from ..training.execute import failure
from ..training.pack import Pack
from .audit import TOLERANCE, Audit, again_as_written
from .checkpoints import Shelf
from .committer import Writer
from .plan import Plan, make_plan
from .recorder import Desk, Finished, Observer, Silent, Unrecorded

log = logging.getLogger("lfombench")


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


def run(
    sweep: Sweep,
    out: str,
    *,
    address: str | None = None,
    workers: int | None = None,
    mlflow: str | None = None,
    audit: float = 0.0,
    profile: bool = False,
    keep_stale: bool = False,
    deadline: float | None = None,
    max_failures: int | None = None,
    stop: Callable[[], bool] = lambda: False,
    join: bool = False,
    observer: Observer | None = None,
) -> Summary:
    """Run what a sweep still lacks in the store at `out`.

    address: a Ray cluster; left out, Ray starts on this machine.
    workers: how many; 0 runs in this process, without Ray.
    mlflow: a tracking URI; left out, SQLite in `out`; "off" for none.
    audit: a share of the sweep's jobs to run again, alone and as written, and to compare.
    keep_stale: count results of code that has changed since as done, instead of making them again.
    deadline: seconds without a sign of life after which a pack is cancelled; by default ten times what it should take.
    max_failures: stop when more jobs than these have failed.
    stop: asked all the time; packs then stop where they can go on, and what is done is committed.
    join: work beside other drivers on the store; each does a share of the jobs.
    profile: note where time goes, in profile/NAME.json; measures the parts of each structure's training step as well.
    """
    begin = time.monotonic()
    observer = observer or Silent()
    store, progress = Store(out), Progress(sweep.name)
    store.create()
    with lease.take(store.place, sweep.name, progress.as_json, log.warning, join=join) as held:
        want(store, sweep)
        shares = Shares(held, store)
        if not shares.ever:
            store.tidy_up()
            for name in maintenance.repair(store):
                log.warning("%s is damaged: its jobs run again", name)
        shares.enter(stop, log.warning)
        skip(store, sweep)
        shelf = Shelf(store.place)

        def planned() -> Plan:
            keep = keep_stale or shares.ever  # whose code is right, drivers beside each other cannot tell
            slots = lanes() if workers is None else max(1, workers)
            return make_plan(sweep, store, slots, keep, shelf, shares.mine, shares.failed)

        ready = planned()
        maintenance.set_aside(store, ready.stale)
        if shelf.points:  # a driver may have died between a commit and this
            shelf.done(shelf.points.keys() & store.done())
        progress.planned(ready.jobs, ready.done, ready.to_run, ready.work, ready.estimate.seconds)
        observer.planned(store, ready, progress)
        limits = Limits(deadline, max_failures, lambda: stop() or held.lost, progress, shares)

        def over() -> bool:
            return limits.stop() or (max_failures is not None and len(progress.failed) > max_failures)

        tracker = _tracker(out, sweep, mlflow)
        spans: list[Span] | None = [] if profile else None
        finished = Finished(progress, shelf, observer, tracker, spans)
        audited: Audit | None = None
        elapsed = 0.0
        with _Workers(address, workers) as hired:
            packs = [pack for pack in (_profiled(ready.packs) if profile else ready.packs) if not pack.waits]
            later = len(packs) < len(ready.packs)
            with Writer(store) as writer:
                while packs:
                    for pack, outcome in schedule.outcomes(packs, hired.executor, Desk(store, shelf), limits):
                        if outcome.failed:
                            shares.failed.update(job.id for job in pack.jobs)
                        writer.put(pack, outcome)
                        finished.take(writer.done())
                    if not (shares.ever or later):
                        break
                    writer.flush()
                    finished.take(writer.done())
                    rest = _rest(shares, planned, over)
                    if rest is None:
                        break
                    progress.planned_anew(rest.work, rest.estimate.seconds)
                    packs = rest.ready
                    for alone, why in _in_vain([] if packs else rest.packs, store.done()):
                        writer.put(alone, failure(alone, why))
            finished.take(writer.done())
            elapsed = time.monotonic() - begin
            if audit and not limits.stop():
                audited = _audit(sweep, store, hired.executor, audit)
            shared = None
            if spans:
                store.write(f"profile/{sweep.name}.json", chrome(spans))
                shared = shares_of(spans, hired.executor.workers, elapsed)
        if held.lost:
            raise UserError(f"another driver took this one for dead and works on {out} now; what was committed is safe")
        if tracker and stop():
            tracker.abandon()
        elif tracker:
            observer.tracking(tracker)
            tracker.close(store.rows, (job.id for job in sweep.jobs()))
        return Summary(
            jobs=ready.jobs,
            done=planned().done if shares.ever else ready.done + progress.ran,
            ran=progress.ran,
            diverged=_diverged(store, sweep),
            failed=progress.failed,
            seconds=time.monotonic() - begin,
            mlflow_error=tracker.error if tracker else None,
            audit=audited,
            profile=shared,
        )


def _profiled(packs: list[Pack]) -> list[Pack]:
    """The first of each structure measures the parts of its training step."""
    first = {pack.first.structure: pack for pack in reversed(packs)}
    return [replace(pack, profiled=first[pack.first.structure] is pack) for pack in packs]


def _in_vain(packs: list[Pack], done: Collection[str]) -> Iterator[tuple[Pack, str]]:
    """Every job of these packs alone, and which of its experts there are no weights of."""
    for pack in packs:
        for job in pack.jobs:
            lost = (
                f"{label(one.solver)} on {label(one.task)}, job {one.id}" for one in job.experts if one.id not in done
            )
            yield replace(pack, jobs=(job,)), f"an expert could not be trained: {'; '.join(lost)}"


def _rest(shares: Shares, planned: Callable[[], Plan], stop: Callable[[], bool]) -> Plan | None:
    """What is left to run: mixtures whose experts are trained, the share of a driver that died. Waits for the others'
    work; where nothing is ready then, what is left waits for experts in vain. None where a stop came first.
    """
    shares.running([])
    while not stop():
        shares.update()
        shares.settled()
        plan = planned()
        if plan.ready or not plan.elsewhere or not shares.wanted:
            if not plan.ready and shares.wanted and shares.failed:
                time.sleep(2 * lease.BEAT)  # until the others have heard what they need not try
            return plan
        time.sleep(lease.BEAT)
    return None


class _Workers:
    """Workers that are hired when the first pack needs them."""

    def __init__(self, address: str | None, workers: int | None) -> None:
        self.address, self.workers = address, workers

    def __enter__(self) -> _Workers:
        return self

    def __exit__(self, *error: object) -> None:
        if "executor" in vars(self):
            self.executor.close()

    @functools.cached_property
    def executor(self) -> Executor:
        """In this process, or on Ray."""
        return InProcess() if self.workers == 0 else OnRay(self.address, self.workers)


def _diverged(store: Store, sweep: Sweep) -> int:
    """How many jobs of a sweep did."""
    known = store.diverged()
    return sum(job.id in known for job in sweep.jobs()) if known else 0


def _audit(sweep: Sweep, store: Store, executor: schedule.Executor, share: float) -> Audit:
    """Run a share of the jobs again, and keep what came of it beside the sweep."""

    def again(packs: list[Pack]) -> list[dict[str, Any]]:
        done = schedule.outcomes(packs, executor, Unrecorded(store))
        return [row for _, outcome in done for row in outcome.tables["results"].to_pylist()]

    entries = list(sweep.entries())
    found = again_as_written(entries, share, lambda ids: store.rows("results", ids).to_pylist(), again)
    store.write(f"audits/{sweep.name}.json", json.dumps(asdict(found) | {"tolerance": TOLERANCE}))
    return found


def _tracker(out: str, sweep: Sweep, mlflow: str | None) -> Tracker | None:
    local = "://" not in out
    if mlflow == "off" or (mlflow is None and not local):
        return None
    artifacts = (Path(out).expanduser().absolute() / "artifacts").as_uri() if mlflow is None else None
    return Tracker(mlflow or default_uri(out), sweep.name, artifacts)
