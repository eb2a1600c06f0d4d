"""Do packs change numbers? A random share of a sweep's jobs runs again, each alone and as its equations are written."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .job import digest
from .pack import Pack
from .plan import Entry

TOLERANCE = 1e-3  # in the logarithm of the mean squared error, after full training
FLOOR = 1e-12  # of the error of predicting 0: below it an error is rounding, and so is its logarithm


@dataclass(frozen=True)
class Audit:
    """What came of it."""

    jobs: int
    rows: int
    largest: float  # deviation of the log mse, over jobs, tests and steps
    where: str

    @property
    def passed(self) -> bool:
        """Whether all lie within the tolerance."""
        return self.largest <= TOLERANCE

    def __str__(self) -> str:
        verdict = "within" if self.passed else "BEYOND"
        return (
            f"audit: {self.jobs} of the jobs run again alone and as written, {self.rows} rows compared; "
            f"largest deviation {self.largest:.1e} in log mse ({self.where}), {verdict} the tolerance of {TOLERANCE:g}"
        )


def sample(entries: Sequence[Entry], share: float) -> list[Entry]:
    """A share of the jobs, at least one: those whose hashed ids come first, so the same ones every time."""
    return sorted(entries, key=lambda one: digest(["audit", one[0].id]))[: max(1, math.ceil(share * len(entries)))]


def packs(entries: Iterable[Entry]) -> list[Pack]:
    """Each alone."""
    return [Pack((job,), tests, as_written=True) for job, tests in entries]


def compare(kept: Iterable[Mapping[str, Any]], again: Iterable[Mapping[str, Any]]) -> Audit:
    """Rows of the store against rows of the jobs run again."""
    before = {(row["job"], row["test"], row["step"]): row for row in kept}
    pairs = [(before[key], row) for row in again if (key := (row["job"], row["test"], row["step"])) in before]
    found = [(deviation(old, new), old) for old, new in pairs]
    largest, row = max(found, key=lambda one: one[0], default=(0.0, None))
    where = (
        f"{row['solver']} depth {row['depth']} step {row['step']} seed {row['seed']}, {row['protocol']}" if row else ""
    )
    return Audit(len({row["job"] for _, row in pairs}), len(pairs), largest, where)


def deviation(old: Mapping[str, Any], new: Mapping[str, Any]) -> float:
    """Of the log mse; infinite where one of the two diverged."""
    if old["mse"] is None or new["mse"] is None:
        return 0.0 if old["mse"] == new["mse"] else math.inf
    least = FLOOR * old["mse"] / old["mse_normalised"] if old["mse_normalised"] else 0.0
    return abs(math.log(max(old["mse"], least)) - math.log(max(new["mse"], least)))
