"""How far a run is: for its terminal, and for those who look at the store meanwhile."""

from __future__ import annotations

import time
from typing import Any

ERRORS = 3  # that are shown
PRIOR = 0.05  # of the work: how much the plan's estimate counts in the time left


class Progress:
    """What was planned, and how much of it is done. Work is measured in the plan's seconds."""

    def __init__(self, sweep: str) -> None:
        self.sweep = sweep
        self.jobs = self.done = self.to_run = self.ran = 0
        self.failed: list[tuple[str, str]] = []  # what failed, and its traceback
        self.total = self.worked = 0.0
        self.estimate = 0.0  # seconds on all workers
        self.begin = time.monotonic()
        self.first: tuple[float, float] | None = None  # when the first pack was there, and its work
        self.in_flight = 0  # packs on workers
        self.stopping = False

    def planned(self, jobs: int, done: int, to_run: int, work: float, estimate: float) -> None:
        """Take note of the plan, before the first pack."""
        self.jobs, self.done, self.to_run = jobs, done, to_run
        self.total, self.estimate = work, estimate
        self.begin = time.monotonic()

    def planned_anew(self, work: float, estimate: float) -> None:
        """Take note of what is left, as predicted from the packs that have run."""
        self.total, self.estimate = self.worked + work, estimate
        self.first = self.elapsed, self.worked

    def took(self, jobs: int, failed: tuple[tuple[str, str], ...], work: float) -> None:
        """Take note of a pack that is safe in the store."""
        self.ran += jobs
        self.failed += failed
        self.worked += work
        self.first = self.first or (self.elapsed, self.worked)

    @property
    def elapsed(self) -> float:
        """Seconds since the plan."""
        return time.monotonic() - self.begin

    @property
    def tried(self) -> int:
        """Jobs that ran or failed."""
        return self.ran + len(self.failed)

    @property
    def rate(self) -> float:
        """Jobs a second."""
        return self.tried / self.elapsed if self.elapsed > 0 else 0.0

    @property
    def left(self) -> float:
        """Seconds, by the rate since the first pack and a little of the plan's; the plan's before that."""
        if not self.first or not self.total:
            return max(0.0, self.estimate - self.elapsed)
        if self.total <= self.worked:
            return 0.0
        since, work = self.elapsed - self.first[0], self.worked - self.first[1]
        prior = PRIOR * (self.total - self.first[1])
        pace = (since + self.estimate * PRIOR) / (work + prior)
        return max(0.0, pace * (self.total - self.worked))

    def as_json(self) -> dict[str, Any]:
        """The progress as plain values, for `lfombench status`."""
        errors = [{"job": name, "error": reason.strip().splitlines()[-1]} for name, reason in self.failed[-ERRORS:]]
        return {
            "sweep": self.sweep,
            "jobs": self.jobs,
            "done_before": self.done,
            "to_run": self.to_run,
            "ran": self.ran,
            "failed": len(self.failed),
            "seconds": round(self.elapsed, 1),
            "jobs_per_second": round(self.rate, 3),
            "seconds_left": round(self.left, 1),
            "in_flight": self.in_flight,
            "stopping": self.stopping,
            "errors": errors,
        }
