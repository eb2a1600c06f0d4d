"""Do packs change numbers? A random share of a sweep's jobs runs again, each alone and eager, and is compared."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..scheduler.executors import Executor
from ..scheduler.packing import PlannedPack
from ..scheduler.pending import Entry
from ..scheduler.schedule import outcomes
from ..spec.job import Job
from ..spec.labels import digest
from ..spec.sweep import Sweep
from ..store import queries
from ..store.deviation import TOLERANCE, Row, largest
from ..store.store import Store
from ..training.pack import Pack
from .recorder import NoRecord

NUDGES = (-2e-7, 2e-7, -5e-7, 5e-7)  # relative

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Audit:
    """What an audit found."""

    jobs: int
    rows: int
    largest: float  # deviation of the log mse, over tests and steps of the jobs that are stable
    where: str
    unstable: list[str]  # jobs whose end is decided by rounding: so little a change at their start moves it as well

    @property
    def passed(self) -> bool:
        """Whether all that are stable lie within the tolerance."""
        return self.largest <= TOLERANCE

    def __str__(self) -> str:
        verdict = "within" if self.passed else "BEYOND"
        text = (
            f"audit: {self.jobs} of the jobs run again alone and eagerly, {self.rows} rows compared; "
            f"{f'of the {self.jobs - len(self.unstable)} that are stable ' if self.unstable else ''}"
            f"largest deviation {self.largest:.1e} in log mse ({self.where}), {verdict} the tolerance of {TOLERANCE:g}"
        )
        return text + "".join(
            f"\nunstable, a rounding of its start moves its end as well: {one}" for one in self.unstable
        )


def audit_sweep(sweep: Sweep, store: Store, executor: Executor, share: float) -> Audit:
    """Run a share of a sweep's jobs again, and write what came of it to audits/NAME.json."""

    def run(packs: list[PlannedPack]) -> Rows:
        ends = outcomes(packs, executor, NoRecord(store))
        return [row for _, outcome in ends for row in outcome.tables["results"].to_pylist()]

    def stored(jobs: set[str]) -> Rows:
        rows: Rows = queries.rows_of(store.place, "results", jobs).to_pylist()
        return rows

    audit = run_again(list(sweep.entries()), share, stored, run)
    store.write(f"audits/{sweep.name}.json", json.dumps(asdict(audit) | {"tolerance": TOLERANCE}))
    return audit


def run_again(
    entries: Sequence[Entry],
    share: float,
    stored: Callable[[set[str]], Rows],
    run: Callable[[list[PlannedPack]], Rows],
) -> Audit:
    """Run a share of the jobs again. stored: the results that a store has of jobs; run: the results of packs.

    Where training amplifies roundings, two runs that differ in nothing else may end anywhere. So a job that deviates
    runs some times more as it first did, from parameters that differ in their last digits: do those agree?
    """
    chosen = sample(entries, share)
    new = run([PlannedPack(Pack((job,), tests), eager=True) for job, tests in chosen])
    old = stored({job.id for job, _ in chosen})
    compared = largest(old, new)
    deviations: dict[str, tuple[float, Row]] = {row["job"]: (math.inf, row) for row in old}  # where it failed now
    deviations |= compared
    doubtful = {
        job.id: (nudged(job), tests) for job, tests in chosen if job.id in compared and compared[job.id][0] > TOLERANCE
    }
    rows = run([PlannedPack(Pack(tuple(jobs), tests)) for jobs, tests in doubtful.values()])
    moved: dict[str, float] = {}  # by job: how far nudges of its start move its end
    for job_id, (jobs, _) in doubtful.items():
        first, *others = ([row | {"job": job_id} for row in rows if row["job"] == one.id] for one in jobs)
        moved[job_id] = max((most for other in others for most, _ in largest(first, other).values()), default=0.0)
    unstable = {job for job, most in moved.items() if most > TOLERANCE}
    stable = (one for job, one in deviations.items() if job not in unstable)
    most, row = max(stable, key=lambda one: one[0], default=(0.0, None))
    texts = [
        f"{_name(deviations[job][1])}: {deviations[job][0]:.1e} eagerly, {moved[job]:.1e} by its start"
        for job in sorted(unstable)
    ]
    return Audit(len(deviations), len(new), most, _name(row) if row else "", texts)


def sample(entries: Sequence[Entry], share: float) -> list[Entry]:
    """A share of the jobs, at least one: those whose hashed ids come first, so the same ones every time."""
    return sorted(entries, key=lambda one: digest(["audit", one[0].id]))[: max(1, math.ceil(share * len(entries)))]


def nudged(job: Job) -> list[Job]:
    """The job from parameters that are larger or smaller by some roundings of single precision."""
    protocol = job.protocol
    return [job.changed(protocol=replace(protocol, init_scale=protocol.init_scale * (1 + e))) for e in NUDGES]


def _name(row: Row) -> str:
    return f"{row['solver']} depth {row['depth']} step {row['step']} seed {row['seed']}, {row['protocol']}"
