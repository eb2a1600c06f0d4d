"""Run a sweep: what is not in the store yet, as packs, on workers, into the store and its MLflow view."""

from __future__ import annotations

import functools
import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from . import lease, plan, schedule, tidy, track
from .audit import TOLERANCE, Audit, again_as_written
from .checkpoint import Checkpoint
from .cost import structure
from .pack import Pack
from .profile import Span, chrome, shares
from .progress import Progress
from .record import Outcome
from .schedule import Limits
from .shelf import Shelf
from .store import Store
from .sweep import Sweep
from .todo import Entry, Todo, pending
from .wanted import want
from .weights import settle
from .workers import Executor, InProcess, OnRay, device_name, lanes, memory
from .writer import Writer

log = logging.getLogger("lfombench")


class Observer(Protocol):
    """Told of a run's progress."""

    def planned(self, store: Store, plan: Plan, progress: Progress) -> None:
        """Before the first pack."""

    def committed(self, progress: Progress) -> None:
        """After a pack is safe in the store."""

    def tracking(self, tracker: track.Tracker) -> None:
        """All packs are done; MLflow may not be."""


@dataclass(frozen=True)
class Plan:
    """A sweep against a store."""

    sweep: Sweep
    jobs: int
    done: int
    packs: list[Pack]
    estimate: plan.Estimate
    stale: list[Todo]  # jobs with results from code that has changed since

    @property
    def to_run(self) -> int:
        """Jobs that lack results."""
        return self.jobs - self.done

    @property
    def work(self) -> float:
        """Seconds of all packs, one after the other."""
        return sum(pack.expected.seconds for pack in self.packs if pack.expected)

    @property
    def why(self) -> dict[str, int]:
        """How many jobs are to run for each reason."""
        found: Counter[str] = Counter()
        for pack in self.packs:
            found.update(dict(pack.why))
        return dict(found.most_common())


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


def make_plan(sweep: Sweep, store: Store, workers: int, keep: bool = False, shelf: Shelf | None = None) -> Plan:
    """What is done, and what is left as packs. keep: results of code that has changed since are good enough."""
    shelf = shelf or Shelf(store.place)
    jobs = 0

    def counted() -> Iterator[Entry]:
        nonlocal jobs
        for entry in sweep.entries():
            jobs += 1
            yield entry

    todo = list(pending(counted(), store.done(), store.failed(), functools.cache(store.explain), keep))
    history = store.history(device_name())
    packs = plan.packs(todo, history, workers, memory() / max(workers, 1), shelf.point)
    estimate = plan.estimate([pack.expected for pack in packs if pack.expected], workers)
    return Plan(sweep, jobs, jobs - len(todo), packs, estimate, [one for one in todo if one.stale])


class Silent:
    """An observer that says nothing."""

    def planned(self, store: Store, plan: Plan, progress: Progress) -> None:
        """Nothing."""

    def committed(self, progress: Progress) -> None:
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
    keep_stale: bool = False,
    deadline: float | None = None,
    max_failures: int | None = None,
    stop: Callable[[], bool] = lambda: False,
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
    profile: note where time goes, in profile/NAME.json; measures the parts of each structure's training step as well.
    """
    begin = time.monotonic()
    observer = observer or Silent()
    store, progress = Store(out), Progress(sweep.name)
    store.create()
    with lease.take(store.place, sweep.name, progress.as_json, log.warning):
        store.tidy_up()
        for name in tidy.repair(store):
            log.warning("%s is damaged: its jobs run again", name)
        shelf = Shelf(store.place)
        ready = make_plan(sweep, store, lanes() if workers is None else max(1, workers), keep_stale, shelf)
        tidy.set_aside(store, ready.stale)
        want(store, sweep)
        progress.planned(ready.jobs, ready.done, ready.work, ready.estimate.seconds)
        observer.planned(store, ready, progress)
        executor: Executor | None = None
        if ready.packs or audit:
            executor = InProcess() if workers == 0 else OnRay(address, workers)
        tracker = _tracker(out, sweep, mlflow)
        first = {pack.first.structure: pack for pack in reversed(ready.packs)}
        packs = [replace(p, profiled=profile and first[p.first.structure] is p) for p in ready.packs]
        finished = Finished(progress, shelf, observer, tracker)
        limits = Limits(deadline, max_failures, stop, progress)
        audited: Audit | None = None
        elapsed = 0.0
        try:
            if executor:
                with Writer(store) as writer:
                    for pack, outcome in schedule.outcomes(packs, executor, Desk(store, shelf), limits):
                        writer.put(pack, outcome)
                        finished.take(writer.done())
                finished.take(writer.done())
                elapsed = time.monotonic() - begin
                if audit and not stop():
                    audited = _audit(sweep, store, executor, audit)
        finally:
            if executor:
                executor.close()
        if tracker and stop():
            tracker.abandon()
        elif tracker:
            observer.tracking(tracker)
            tracker.close(store.rows, (job.id for job in sweep.jobs()))
        shared = None
        if profile and executor:
            store.write(f"profile/{sweep.name}.json", chrome(finished.spans))
            shared = shares(finished.spans, executor.workers, elapsed)
        return Summary(
            jobs=ready.jobs,
            done=ready.done + progress.ran,
            ran=progress.ran,
            diverged=_diverged(store, sweep),
            failed=progress.failed,
            seconds=time.monotonic() - begin,
            mlflow_error=tracker.error if tracker else None,
            audit=audited,
            profile=shared,
        )


def _diverged(store: Store, sweep: Sweep) -> int:
    """How many jobs of a sweep did."""
    known = store.diverged()
    return sum(job.id in known for job in sweep.jobs()) if known else 0


class Desk:
    """What a scheduler asks of the store while it runs."""

    def __init__(self, store: Store, shelf: Shelf) -> None:
        self.store, self.shelf = store, shelf

    def ready(self, pack: Pack) -> Pack:
        """A pack as it is sent to a worker."""
        return settle(self.store, pack) if pack.trained else replace(pack, resume=self.shelf.resume(pack))

    def keep(self, pack: Pack, checkpoint: Checkpoint) -> None:
        """A pack is so far. A full disk is no reason to stop it."""
        try:
            self.shelf.keep(pack, checkpoint)
        except OSError as error:
            log.warning("a checkpoint cannot be written: %s", error)

    def too_wide(self, pack: Pack) -> None:
        """A pack ran out of memory."""
        self.store.too_wide(device_name(), structure(pack.first), len(pack.jobs))


class Finished:
    """What is done with packs that are safe in the store."""

    def __init__(self, progress: Progress, shelf: Shelf, observer: Observer, tracker: track.Tracker | None) -> None:
        self.progress, self.shelf, self.observer, self.tracker = progress, shelf, observer, tracker
        self.spans: list[Span] = []

    def take(self, committed: Iterable[tuple[Pack, Outcome]]) -> None:
        """These are."""
        for pack, outcome in committed:
            self.shelf.done(job.id for job in pack.jobs)
            self.spans += outcome.spans
            self.progress.took(outcome.jobs, outcome.failed, pack.expected.seconds if pack.expected else 0.0)
            self.observer.committed(self.progress)
            if self.tracker:
                self.tracker.add(outcome.tables)


class Unrecorded:
    """A desk for packs that leave nothing behind."""

    def ready(self, pack: Pack) -> Pack:
        """As it is."""
        return pack

    def keep(self, pack: Pack, checkpoint: Checkpoint) -> None:
        """Nothing."""

    def too_wide(self, pack: Pack) -> None:
        """Nothing."""


def _audit(sweep: Sweep, store: Store, executor: schedule.Executor, share: float) -> Audit:
    """Run a share of the jobs again, and keep what came of it beside the sweep."""

    def again(packs: list[Pack]) -> list[dict[str, Any]]:
        done = schedule.outcomes(packs, executor, Unrecorded())
        return [row for _, outcome in done for row in outcome.tables["results"].to_pylist()]

    entries = list(sweep.entries())
    found = again_as_written(entries, share, lambda ids: store.rows("results", ids).to_pylist(), again)
    store.write(f"audits/{sweep.name}.json", json.dumps(asdict(found) | {"tolerance": TOLERANCE}))
    return found


def _tracker(out: str, sweep: Sweep, mlflow: str | None) -> track.Tracker | None:
    local = "://" not in out
    if mlflow == "off" or (mlflow is None and not local):
        return None
    artifacts = (Path(out).expanduser().absolute() / "artifacts").as_uri() if mlflow is None else None
    return track.Tracker(mlflow or track.default_uri(out), sweep.name, artifacts)
