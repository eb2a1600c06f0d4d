"""Do packs change numbers? A random share of a sweep's jobs runs again, each alone and as its equations are written."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..scheduler.pending import Entry
from ..spec.job import Job
from ..spec.labels import digest
from ..training.pack import Pack

TOLERANCE = 1e-3  # in the logarithm of the mean squared error, after full training
NUDGES = (-2e-7, 2e-7, -5e-7, 5e-7)  # relative
FLOOR = 1e-12  # of the error of predicting 0: below it an error is rounding, and so is its logarithm

Row = Mapping[str, Any]
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Audit:
    """What came of it."""

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
            f"audit: {self.jobs} of the jobs run again alone and as written, {self.rows} rows compared; "
            f"{f'of the {self.jobs - len(self.unstable)} that are stable ' if self.unstable else ''}"
            f"largest deviation {self.largest:.1e} in log mse ({self.where}), {verdict} the tolerance of {TOLERANCE:g}"
        )
        return text + "".join(
            f"\nunstable, a rounding of its start moves its end as well: {one}" for one in self.unstable
        )


def again_as_written(
    entries: Sequence[Entry], share: float, kept: Callable[[set[str]], Rows], run: Callable[[list[Pack]], Rows]
) -> Audit:
    """Run a share of the jobs again. kept: what the store has of jobs; run: what packs give.

    Where training amplifies roundings, two runs that differ in nothing else may end anywhere. So a job that deviates
    runs some times more as it first did, from parameters that differ in their last digits: do those agree?
    """
    chosen = sample(entries, share)
    again = run([Pack((job,), tests, as_written=True) for job, tests in chosen])
    before = kept({job.id for job, _ in chosen})
    compared = worst(before, again)
    found = {row["job"]: (math.inf, row) for row in before} | compared  # infinite where it failed now
    doubtful = {
        job.id: (nudged(job), tests) for job, tests in chosen if job.id in compared and compared[job.id][0] > TOLERANCE
    }
    rows = run([Pack(tuple(others), tests) for others, tests in doubtful.values()])
    moved: dict[str, float] = {}
    for job_id, (jobs, _) in doubtful.items():
        first, *others = ([row | {"job": job_id} for row in rows if row["job"] == one.id] for one in jobs)
        moved[job_id] = max((most for other in others for most, _ in worst(first, other).values()), default=0.0)
    unstable = {job for job, most in moved.items() if most > TOLERANCE}
    largest, row = max(
        (one for job, one in found.items() if job not in unstable), key=lambda one: one[0], default=(0.0, None)
    )
    told = [
        f"{_name(found[job][1])}: {found[job][0]:.1e} as written, {moved[job]:.1e} by its start"
        for job in sorted(unstable)
    ]
    return Audit(len(found), len(again), largest, _name(row) if row else "", told)


def sample(entries: Sequence[Entry], share: float) -> list[Entry]:
    """A share of the jobs, at least one: those whose hashed ids come first, so the same ones every time."""
    return sorted(entries, key=lambda one: digest(["audit", one[0].id]))[: max(1, math.ceil(share * len(entries)))]


def nudged(job: Job) -> list[Job]:
    """The job from parameters that are larger or smaller by some roundings of single precision."""
    protocol = job.protocol
    return [job.having(protocol=replace(protocol, init_scale=protocol.init_scale * (1 + e))) for e in NUDGES]


def worst(kept: Iterable[Row], again: Iterable[Row]) -> dict[str, tuple[float, Row]]:
    """Each job's largest deviation, and where."""
    before = {(row["job"], row["test"], row["step"]): row for row in kept}
    found: dict[str, tuple[float, Row]] = {}
    for row in again:
        old = before.get((row["job"], row["test"], row["step"]))
        if old is not None:
            found[row["job"]] = max(
                found.get(row["job"], (-1.0, row)), (deviation(old, row), old), key=lambda one: one[0]
            )
    return found


def _name(row: Row) -> str:
    return f"{row['solver']} depth {row['depth']} step {row['step']} seed {row['seed']}, {row['protocol']}"


def deviation(old: Row, new: Row) -> float:
    """Of the log mse; infinite where one of the two diverged."""
    if old["mse"] is None or new["mse"] is None:
        return 0.0 if old["mse"] == new["mse"] else math.inf
    least = FLOOR * old["mse"] / old["mse_normalised"] if old["mse_normalised"] else 0.0
    return abs(math.log(max(old["mse"], least)) - math.log(max(new["mse"], least)))
