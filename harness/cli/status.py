"""How far the sweeps of a store are, and who works on it: from its tables and its drivers' beats."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from .options import JSON, OUT, SWEEP
from .read import known_sweeps

if TYPE_CHECKING:
    from ..store.manifest import Manifest

EVERY = 2.0  # seconds between two checks of a store that is watched


@click.command()
@OUT
@SWEEP
@click.option("--watch", is_flag=True, help="Again and again, until nobody works on the store or Ctrl-C.")
@JSON
def status(out: str, sweep: str | None, watch: bool, as_json: bool) -> None:
    """Say how far the sweeps of a store are, and who works on it."""
    while True:
        now = standing(out, known_sweeps(out, sweep))
        if as_json:
            click.echo(json.dumps(now, indent=None if watch else 1))
        else:
            if watch and sys.stdout.isatty():
                click.clear()
            click.echo(text(now))
        if not watch or not now["drivers"]:
            return
        time.sleep(EVERY)


def standing(out: str, manifests: list[Manifest]) -> dict[str, Any]:
    """Sweeps with their numbers of jobs, and drivers that are alive with their progress."""
    import polars as pl

    from lfombench.analysis.results import leaves, table

    from ..store import lease
    from ..store.filesystem import place

    here = place(out)
    results = table(out, "results").filter(pl.col("step") == 0)
    done = results.group_by("job").agg(pl.col("test").unique(), pl.col("task").first()).collect()
    status = table(out, "jobs").select("job", "status").collect()
    sweeps = []
    for manifest in leaves(out, manifests):
        ids = pl.DataFrame({"job": manifest.jobs}, schema={"job": pl.String})
        complete = ids.join(done, on="job")
        for test in manifest.tests:
            complete = complete.filter(pl.col("test").list.contains(test))
        complete = complete.filter(pl.col("test").list.contains(pl.col("task")))
        counts = dict(ids.join(status, on="job")["status"].value_counts().iter_rows())
        sweeps.append(
            {
                "sweep": manifest.name,
                "jobs": len(manifest.jobs),
                "done": len(complete),
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


def text(now: dict[str, Any]) -> str:
    """The standing in words."""
    from .format import duration

    line = "{sweep}: {done} of {jobs} jobs done, {failed} failed, {diverged} diverged"
    lines = [line.format(**row) for row in now["sweeps"]]
    for driver in now["drivers"]:
        doing = "stopping" if driver.get("stopping") else "running"
        ran = driver.get("ran", 0) + driver.get("failed", 0)
        lines.append(
            f"{doing} {driver.get('sweep')} on {driver['host']}, process {driver['pid']}, since {driver['since']}: "
            f"{ran} of {driver.get('to_run', 0)} jobs, {driver.get('jobs_per_second', 0):.1f} jobs/s, "
            f"{duration(driver.get('seconds_left', 0.0))} left, {driver.get('in_flight', 0)} packs on workers"
        )
        lines += [f"  failed: {error['job']}: {error['error']}" for error in driver.get("errors", ())]
    return "\n".join(lines)
