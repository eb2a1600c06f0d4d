"""How far the sweeps of a store are, and who works on it: from its tables and its drivers' beats alone."""

from __future__ import annotations

from typing import Any

import polars as pl

from lfombench.analysis.results import Wanted, leaves, table

from ..store import lease
from ..store.filesystem import place
from .format import duration


def standing(out: str, wanted: list[Wanted]) -> dict[str, Any]:
    """Sweeps with their counts, and drivers that are alive with their progress."""
    here = place(out)
    results = table(out, "results").filter(pl.col("step") == 0)
    done = results.group_by("job").agg(pl.col("test").unique(), pl.col("task").first()).collect()
    status = table(out, "jobs").select("job", "status").collect()
    sweeps = []
    for sweep in leaves(out, wanted):
        ids = pl.DataFrame({"job": sweep.jobs}, schema={"job": pl.String})
        mine = ids.join(done, on="job")
        for test in sweep.tests:
            mine = mine.filter(pl.col("test").list.contains(test))
        mine = mine.filter(pl.col("test").list.contains(pl.col("task")))
        fates = ids.join(status, on="job")["status"].value_counts()
        counts = dict(fates.iter_rows())
        sweeps.append(
            {
                "sweep": sweep.name,
                "jobs": len(sweep.jobs),
                "done": len(mine),
                "failed": counts.get("failed", 0),
                "diverged": counts.get("diverged", 0),
            }
        )
    drivers = [
        {"host": driver.host, "pid": driver.pid, "since": driver.since} | driver.progress
        for driver in lease.drivers(here)
        if lease.alive(here, driver)
    ]
    return {"sweeps": sweeps, "drivers": drivers}


def shown(found: dict[str, Any]) -> str:
    """In words."""
    line = "{sweep}: {done} of {jobs} jobs done, {failed} failed, {diverged} diverged"
    lines = [line.format(**row) for row in found["sweeps"]]
    for driver in found["drivers"]:
        doing = "stopping" if driver.get("stopping") else "running"
        ran = driver.get("ran", 0) + driver.get("failed", 0)
        lines.append(
            f"{doing} {driver.get('sweep')} on {driver['host']}, process {driver['pid']}, since {driver['since']}: "
            f"{ran} of {driver.get('to_run', 0)} jobs, {driver.get('jobs_per_second', 0):.1f} jobs/s, "
            f"{duration(driver.get('seconds_left', 0.0))} left, {driver.get('in_flight', 0)} packs on workers"
        )
        lines += [f"  failed: {one['job']}: {one['error']}" for one in driver.get("errors", ())]
    return "\n".join(lines)
