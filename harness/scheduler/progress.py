"""The progress of a run: for its terminal, and for `lfombench status` in another one."""

from __future__ import annotations

import time
from typing import Any

ERRORS = 3  # number of latest errors that `as_json` has
PRIOR = 0.05  # weight of the plan's estimate in the time left, as a share of the work


class Progress:
    """What is planned in a run, and how much of it is done. Work is measured in seconds as planned."""

    def __init__(self, sweep: str) -> None:
        self.sweep = sweep
        self.jobs = self.done = self.to_run = self.ran = 0
        self.failed: list[tuple[str, str]] = []  # each job that failed, in words, and its traceback
        self.total = self.worked = 0.0
        self.estimate = 0.0  # seconds on all workers
        self.begin = time.monotonic()
        self.first: tuple[float, float] | None = None  # seconds until the first commit, and the work done by then
        self.in_flight = 0  # packs on workers
        self.stopping = False

    def planned(self, jobs: int, done: int, to_run: int, work: float, estimate: float) -> None:
        """Record the plan, before the first pack."""
        self.jobs, self.done, self.to_run = jobs, done, to_run
        self.total, self.estimate = work, estimate
        self.begin = time.monotonic()

    def planned_anew(self, work: float, estimate: float) -> None:
        """Record the work that is left, as predicted anew from the packs that have run."""
        self.total, self.estimate = self.worked + work, estimate
        self.first = self.elapsed, self.worked

    def took(self, jobs: int, failed: tuple[tuple[str, str], ...], work: float) -> None:
        """Record a pack that is committed to the store: jobs that ran, jobs that failed, and its work."""
        self.ran += jobs
        self.failed += failed
        self.worked += work
        self.first = self.first or (self.elapsed, self.worked)

    @property
    def elapsed(self) -> float:
        """Seconds since the run was planned."""
        return time.monotonic() - self.begin

    @property
    def tried(self) -> int:
        """Number of jobs that ran or failed."""
        return self.ran + len(self.failed)

    @property
    def rate(self) -> float:
        """Jobs that ran or failed per second since the run was planned."""
        return self.tried / self.elapsed if self.elapsed > 0 else 0.0

    @property
    def left(self) -> float | None:
        """Seconds until the run ends: by the plan before the first pack is committed, after it by the pace since then
        and, with a small weight, by the plan. None where the plan's time is over and nothing is committed.
        """
        if not self.first or not self.total:
            return max(0.0, self.estimate - self.elapsed) or (None if self.estimate else 0.0)
        if self.total <= self.worked:
            return 0.0
        since, work = self.elapsed - self.first[0], self.worked - self.first[1]
        prior = PRIOR * (self.total - self.first[1])
        pace = (since + self.estimate * PRIOR) / (work + prior)
        return max(0.0, pace * (self.total - self.worked))

    def as_json(self) -> dict[str, Any]:
        """The progress as plain values, which `lfombench status` shows."""
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
            "seconds_left": None if (left := self.left) is None else round(left, 1),
            "in_flight": self.in_flight,
            "stopping": self.stopping,
            "errors": errors,
        }
