"""The command that shows the progress of a store's sweeps and the drivers that work on it."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from .options import JSON, OUT, SWEEP
from .plain import raw
from .sweeps import NO_SWEEP, known_sweeps

if TYPE_CHECKING:
    from ..store.manifest import Manifest

CLEAR = "\x1b[2J\x1b[H"  # the terminal
EVERY = 2.0  # seconds between two checks of a store that is watched


@click.command()
@SWEEP
@OUT
@click.option("--watch", is_flag=True, help="Repeat until no driver works on the store, or Ctrl-C.")
@JSON
def status(out: str, sweep: str | None, watch: bool, as_json: bool) -> None:
    """Show the progress of a store's sweeps, or of its SWEEP, and the drivers that work on it."""
    from ..store.filesystem import place
    from ..store.tables import resized, verify

    known_sweeps(out, sweep)  # whether there is a store
    verify(place(out), resized)
    while True:
        state = standing(out, known_sweeps(out, sweep))
        if as_json:
            click.echo(json.dumps(state, indent=None if watch else 1))
        else:
            if watch and sys.stdout.isatty():
                raw(sys.stdout).write(CLEAR)
            click.echo(text(state))
        if not watch or not state["drivers"]:
            return
        time.sleep(EVERY)


def standing(out: str, manifests: list[Manifest]) -> dict[str, Any]:
    """The state of a store: sweeps with their numbers of jobs, and drivers that are alive with their progress."""
    import polars as pl

    from lfombench.analysis.results import leaves

    from ..store import queries
    from ..store.drivers import alive
    from ..store.drivers import drivers as drivers_of
    from ..store.filesystem import place

    store_place = place(out)
    columns, first = ["job", "test", "task"], pl.col("step") == 0
    results = pl.DataFrame(queries.table(store_place, "results", columns, first))
    done = results.group_by("job").agg(pl.col("test").unique(), pl.col("task").first())
    status = pl.DataFrame(queries.table(store_place, "jobs", ["job", "status"])).unique(
        "job", keep="last", maintain_order=True
    )
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
        for driver in drivers_of(store_place)
        if alive(store_place, driver)
    ]
    return {"sweeps": sweeps, "drivers": drivers}


def text(state: dict[str, Any]) -> str:
    """The state of a store in words: a line for each sweep and each driver."""
    from .format import remaining

    line = "{sweep}: {done} of {jobs} jobs done, {failed} failed, {diverged} diverged"
    lines = [line.format(**row) for row in state["sweeps"]]
    for driver in state["drivers"]:
        activity = "stopping" if driver.get("stopping") else "running"
        ran = driver.get("ran", 0) + driver.get("failed", 0)
        lines.append(
            f"{activity} {driver.get('sweep')} on {driver['host']}, process {driver['pid']}, since {driver['since']}: "
            f"{ran} of {driver.get('to_run', 0)} jobs, {driver.get('jobs_per_second', 0):.1f} jobs/s, "
            f"{remaining(driver.get('seconds_left'))}, {driver.get('in_flight', 0)} packs on workers"
        )
        lines += [f"  failed: {error['job']}: {error['error']}" for error in driver.get("errors", ())]
    return "\n".join(lines) or NO_SWEEP
