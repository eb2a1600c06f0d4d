"""Run a sweep: what is not in the store yet, as packs, on workers, into the store and its MLflow view."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

from ..errors import SpecError, UserError, nearest
from ..scheduler.packing import PlannedPack
from ..scheduler.progress import Progress
from ..scheduler.schedule import Limits, outcomes
from ..scheduler.sharing import Shares
from ..spans import Span, chrome, shares_of_time
from ..spec.labels import label
from ..spec.loader import load
from ..spec.sweep import Sweep
from ..store import lease, maintenance, queries
from ..store.store import Store
from ..tracking.follow import Follower
from ..tracking.uris import where
from ..training.execute import failure
from .audit import Audit, audit_sweep
from .checkpoints import CheckpointStore
from .committer import Committer
from .manifests import record_skipped, record_sweep
from .options import Options
from .plan import Plan, make_plan
from .recorder import AfterCommit, StoreRecorder
from .workers import Workers

log = logging.getLogger("lfombench")


@dataclass(frozen=True)
class Summary:
    """How a run ended."""

    jobs: int
    done: int
    ran: int
    diverged: int
    failed: list[tuple[str, str]]  # each job that failed, in words, and its traceback
    seconds: float
    mlflow_error: str | None
    audit: Audit | None = None
    profile: dict[str, float] | None = None  # seconds of all workers, by what they went to

    @property
    def exit_code(self) -> int:
        """0 if every job is done, 3 if some failed, diverged or are missing, or an audit found them changed."""
        audited = self.audit is None or self.audit.passed
        return 0 if audited and not self.failed and not self.diverged and self.done == self.jobs else 3


def run(sweep: Sweep | str, out: str, **options: Any) -> Summary:
    """Run what a sweep still lacks in the store at `out`, a folder or a prefix in `s3://`, `gs://` or `az://`.

    sweep: a `Sweep`, a file, or the name of a shipped sweep. options: the fields of `Options`, by name.
    Raises `UserError` for whatever the user can put right.
    """
    names = [f.name for f in fields(Options)]
    for name in options:
        if name not in names:
            raise SpecError(f"run has no option {name!r}; {nearest(name, names)}")
    sweep = load(sweep) if isinstance(sweep, str) else sweep
    chosen, store, progress = Options(**options), Store(out), Progress(sweep.name)
    store.create()
    held = lease.take(store.place, sweep.name, progress.as_json, log.warning, join=chosen.join)
    with held, _Run(sweep, store, held, progress, chosen) as this:
        this.open()
        plan = this.plan()
        this.drive(plan)
        return this.close(plan)


class _Run:
    """One run: opened, planned, driven and closed, in that order."""

    def __init__(self, sweep: Sweep, store: Store, held: lease.Lease, progress: Progress, options: Options) -> None:
        self.sweep, self.store, self.lease, self.progress, self.options = sweep, store, held, progress, options
        self.begin = time.monotonic()
        self.audit: Audit | None = None
        self.profile: dict[str, float] | None = None
        self.spans: list[Span] | None = [] if options.profile else None
        self.follower: Follower | None = None
        self.at_end = contextlib.ExitStack()
        self.workers = Workers(sweep.name, store, options)
        self.at_end.callback(self.workers.close)

    def __enter__(self) -> _Run:
        return self

    def __exit__(self, *error: object) -> None:
        self.at_end.close()

    def open(self) -> None:
        """Record the sweep in the store, mend the store, and wait until other drivers know of this one."""
        store, options = self.store, self.options
        record_sweep(store, self.sweep)
        self.shares = Shares(self.lease, store)
        if not self.shares.shared:
            store.remove_uncommitted()
            for name in maintenance.repair(store):
                log.warning("%s is damaged: its jobs run again", name)
        self.workers.join()  # once nothing is removed any more: a file in the store tells its nodes that they see it
        self.shares.enter(options.stop, log.warning)
        record_skipped(store, self.sweep)
        if shown_at := where(store.out, options.mlflow, log.warning):
            try:
                self.follower = Follower(store.out, shown_at)
                self.at_end.callback(self.follower.stop)
            except OSError as error:
                log.warning("MLflow is not written: %s; lfombench mlflow sync does it later", error)
        self.checkpoints = CheckpointStore(store.place)
        self.at_end.callback(self.checkpoints.flush)

    def plan(self) -> Plan:
        """What is done and what is left; stale results are set aside."""
        plan = self._planned()
        pairs = {(one.job.id, test) for one in plan.stale for test in one.stale_tests}
        maintenance.set_aside(self.store, pairs, {one.job.id for one in plan.stale if not one.trained})
        if self.checkpoints.points:  # a driver may have died between a commit and this
            self.checkpoints.drop(self.checkpoints.points.keys() & queries.done(self.store.place))
        self.progress.planned(plan.jobs, plan.done, plan.to_run, plan.seconds, plan.estimate.seconds)
        self.options.observer.planned(self.store, plan, self.progress)
        return plan

    def drive(self, plan: Plan) -> None:
        """Run all packs, and those that can only be planned once others are done; then the audit."""
        store, options = self.store, self.options
        finished = AfterCommit(self.progress, self.checkpoints, options.observer, self.spans)
        recorder = StoreRecorder(store, self.checkpoints, options.deadline)
        limits = Limits(options.deadline, options.max_failures, self._stopped)
        packs = _profiled(plan.ready) if options.profile else plan.ready
        later = len(packs) < len(plan.packs)
        with Committer(store) as committer:
            while packs:
                ends = outcomes(packs, self.workers.executor, recorder, limits, self.progress, self.shares, plan.pools)
                for planned, outcome in ends:
                    if outcome.failed:
                        self.shares.failed.update(job.id for job in planned.pack.jobs)
                    committer.put(planned, outcome)
                    finished.take(committer.committed())
                if not (self.shares.shared or later):
                    break
                committer.flush()
                finished.take(committer.committed())
                rest = self._rest()
                if rest is None:
                    break
                self.progress.planned_anew(rest.seconds, rest.estimate.seconds)
                packs = rest.ready
                done = queries.done(store.place)
                for alone, why in _without_experts([] if packs else rest.packs, done):
                    committer.put(alone, failure(alone.pack, alone.cost, why))
        finished.take(committer.committed())
        elapsed = time.monotonic() - self.begin
        if options.audit and not self._stopped():
            self.audit = audit_sweep(self.sweep, store, self.workers.executor, options.audit)
        if self.spans is not None:
            self.spans += committer.spans
        if self.spans:
            try:
                store.write(f"profile/{self.sweep.name}.json", chrome(self.spans))
            except UserError as error:
                log.warning("the trace of the profile is missing: %s", error)
            self.profile = shares_of_time(self.spans, sum(self.workers.executor.workers.values()), elapsed)

    def close(self, plan: Plan) -> Summary:
        """Wait for MLflow; how the run ended."""
        progress = self.progress
        if self.lease.lost:
            raise UserError(
                f"another driver took this one for dead and works on {self.store.out} now; what was committed is safe"
            )
        if self.follower and not self.options.stop():
            self.follower.finish(self.options.observer.tracking)
        diverged = queries.diverged(self.store.place)
        return Summary(
            jobs=plan.jobs,
            done=self._planned().done if self.shares.shared else plan.done + progress.ran,
            ran=progress.ran,
            diverged=sum(job.id in diverged for job in self.sweep.jobs()) if diverged else 0,
            failed=progress.failed,
            seconds=time.monotonic() - self.begin,
            mlflow_error=_untold(self.follower),
            audit=self.audit,
            profile=self.profile,
        )

    def _planned(self) -> Plan:
        shares, pools = self.shares, self.workers.pools  # these are asked for their number last
        keep = self.options.keep_stale or shares.shared  # whose code is right, drivers beside each other cannot tell
        return make_plan(self.sweep, self.store, pools, keep, self.checkpoints, shares.owns, shares.failed)

    def _stopped(self) -> bool:
        return self.options.stop() or self.lease.lost

    def _rest(self) -> Plan | None:
        """What is left to run: mixtures whose experts are trained, the share of a driver that died. Waits for the
        others' work; where nothing is ready then, what is left waits for experts in vain. None where a stop came first.
        """
        shares, most = self.shares, self.options.max_failures
        while not (self._stopped() or (most is not None and len(self.progress.failed) > most)):
            shares.update()
            shares.announce([])
            shares.acknowledge()
            self.lease.hurry()
            plan = self._planned()
            if plan.ready or not plan.elsewhere or not shares.wanted:
                if not plan.ready:
                    shares.leave(self._stopped)
                return plan
            time.sleep(self.lease.pace.beat)
        return None


def _profiled(packs: list[PlannedPack]) -> list[PlannedPack]:
    """The packs, of which the first of each structure measures the parts of its training step."""
    first = {planned.pack.first.structure: planned for planned in reversed(packs)}
    return [replace(planned, profiled=first[planned.pack.first.structure] is planned) for planned in packs]


def _without_experts(packs: list[PlannedPack], done: Collection[str]) -> Iterator[tuple[PlannedPack, str]]:
    """Every job of these packs alone, and which of its experts there are no weights of."""
    for planned in packs:
        for job in planned.pack.jobs:
            lost = (
                f"{label(one.solver)} on {label(one.task)}, job {one.id}" for one in job.experts if one.id not in done
            )
            yield planned.for_jobs([job]), f"an expert could not be trained: {'; '.join(lost)}"


def _untold(follower: Follower | None) -> str | None:
    """Why MLflow does not show everything, if so."""
    if follower is None or follower.error:
        return follower.error if follower else None
    refused = follower.refused
    return f"{len(refused)} jobs are refused; the first: {next(iter(refused.values()))}" if refused else None
