"""The command that shows what a run would do."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import click

from .options import CLUSTER, JSON, OUT, STALE, resources, with_options

NARROW = 100  # columns of a terminal, below which packs are lines and not a table


@click.command()
@click.argument("sweep")
@OUT
@click.option(
    "--workers", type=click.IntRange(min=1), help="Workers to estimate for. [default: one per core, or some per GPU]"
)
@click.option("--address", metavar="HOST:PORT", help="Plan for the nodes of a Ray cluster.")
@with_options(CLUSTER[:-1])
@STALE
@JSON
def plan(sweep: str, out: str, stale: str, as_json: bool, **options: Any) -> None:
    """Show what SWEEP would run and why: its jobs, as packs, what is done already, and how long the rest takes."""
    from rich.table import Table

    from ..driver.options import Options
    from ..driver.plan import make_plan
    from ..driver.workers import Workers
    from ..spec.labels import label
    from ..spec.loader import load
    from ..store.store import Store
    from .format import counted
    from .terminal import console, estimated, state

    chosen = Options(resources=resources(options), **options)
    with contextlib.closing(Workers(sweep, Store(out), chosen)) as workers:
        workers.join()
        work = make_plan(load(sweep), Store(out), workers.pools, stale == "keep")
    packs: list[dict[str, Any]] = [
        {
            "pack": planned.pack.id,
            "solver": " + ".join(dict.fromkeys(label(job.solver) for job in planned.pack.jobs)),
            "depth": planned.pack.first.solver.depth,
            "protocol": label(planned.pack.first.protocol),
            "jobs": len(planned.pack.jobs),
            "models": planned.pack.members,
            "seconds": round(planned.cost.seconds, 1),
            "low": round(planned.cost.low, 1),
            "high": round(planned.cost.high, 1),
            "why": dict(planned.why),
            "megabytes": round(planned.cost.memory / 1e6),
        }
        for planned in work.packs
        if planned.cost
    ]
    if as_json:
        head = {"sweep": work.sweep.name, "jobs": work.jobs, "done": work.done, "to_run": work.to_run}
        head |= {"stale": len(work.stale), "why": work.why}
        times = {name: round(getattr(work.estimate, name), 1) for name in ("seconds", "low", "high")}
        click.echo(json.dumps(head | times | {"packs": packs}, indent=1))
        return
    screen = console()
    if packs and screen.width < NARROW:
        for pack in packs:
            reasons = ", ".join(f"{jobs} {why}" for why, jobs in pack["why"].items())
            parts = [pack["solver"], f"depth {pack['depth']}", pack["protocol"], counted(pack["jobs"], "job")]
            parts += [
                f"{pack['seconds']:g} s ({pack['low']:g} to {pack['high']:g})",
                f"{pack['megabytes']} MB",
                reasons,
            ]
            screen.print(", ".join(parts), highlight=False)
    elif packs:
        table = Table("solver", "depth", "protocol", "jobs", "models", "seconds", "80 %", "MB", "why")
        for column in table.columns[1:2] + table.columns[3:-1]:
            column.justify = "right"
        for pack in packs:
            cells = [str(pack[key]) for key in ("solver", "depth", "protocol", "jobs", "models", "seconds")]
            reasons = ", ".join(f"{jobs} {why}" for why, jobs in pack["why"].items())
            table.add_row(*cells, f"{pack['low']:g} to {pack['high']:g}", str(pack["megabytes"]), reasons)
        screen.print(table)
    rest = f" in {counted(len(packs), 'pack')}, {estimated(work.estimate)}" if packs else ""
    screen.print(f"{state(work)}{rest}", highlight=False)
