"""Commands that run a sweep, or show what would run."""

from __future__ import annotations

import functools
import json
import signal
import sys
from collections.abc import Callable, Sequence
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from ..signals import Draining, listen
from ..unexpected import explained
from .options import CLUSTER, JSON, OUT, Number
from .read import brackets
from .sweeps import known_sweeps

if TYPE_CHECKING:
    from ..driver.run import Summary
    from .terminal import Terminal

NARROW = 100  # columns of a terminal, below which packs are lines and not a table
STALE = click.option(
    "--stale",
    type=click.Choice(["rerun", "keep"]),
    default="rerun",
    show_default=True,
    help="What to do with results whose code has changed since.",
)


HOW = (  # a sweep is run, here or on a cluster
    click.option("--mlflow", metavar="URI", help="A tracking server, or off. [default: SQLite in the store]"),
    click.option(
        "--audit",
        type=Number(0, 1, min_open=True),
        metavar="SHARE",
        help="Run this share of the jobs again, alone and eagerly, and compare; 0.01 is one in a hundred.",
    ),
    STALE,
    click.option("--join", is_flag=True, help="Work beside other drivers on the store: each runs a share of the jobs."),
    click.option("--fail-fast", is_flag=True, help="Stop at the first job that fails."),
    click.option(
        "--max-failures", type=click.IntRange(min=0), metavar="N", help="Stop when more than N jobs have failed."
    ),
    click.option(
        "--deadline",
        type=Number(0, min_open=True),
        metavar="SECONDS",
        help="Cancel a pack that shows no sign of life for so long. [default: 10 times its expected time]",
    ),
    click.option(
        "--profile", is_flag=True, help="Show where time goes; keep a trace for chrome://tracing in the store."
    ),
)


def with_options(options: Sequence[Callable[[Any], Any]]) -> Callable[[Any], Any]:
    """Decorates a command with options, in this order."""
    return lambda command: functools.reduce(lambda decorated, option: option(decorated), reversed(options), command)


@click.command()
@click.argument("sweep")
@OUT
@click.option(
    "--address", metavar="HOST:PORT", help="A Ray cluster, or auto on one of its machines. [default: Ray here]"
)
@click.option(
    "--workers",
    type=click.IntRange(min=0),
    help="Number of workers; 0 runs in this process. [default: one per core, or some per GPU]",
)
@with_options(CLUSTER)
@with_options(HOW)
def run(
    sweep: str, out: str, audit: float | None, stale: str, fail_fast: bool, max_failures: int | None, **options: Any
) -> None:
    """Run the jobs of SWEEP that are not done yet, then show its boards."""
    from ..driver.run import run as start
    from ..scheduler.resources import Resources
    from ..spec.loader import load
    from ..spec.refine import ROUNDS, refined
    from .format import counted, duration
    from .terminal import Terminal, console

    if options["address"] and options["workers"] == 0:
        raise click.UsageError("--workers 0 runs in this process; it cannot be on a cluster at --address")
    part: dict[str, Any] = {name: options.pop(name) for name in ("cpus", "gpus", "gpu_fraction", "labels")}
    if not options["address"] and any(value not in (None, ()) for value in part.values()):
        raise click.UsageError("--cpus, --gpus, --gpu-fraction and --labels choose a part of a cluster at --address")
    if part["cpus"] == 0 and part["gpus"] == 0:
        raise click.UsageError("--cpus 0 and --gpus 0 leave no worker; leave one of them out, or give more")
    resources = Resources(**part | {"labels": dict(part["labels"])})
    listen(signal.SIGINT, signal.SIGTERM)
    terminal = Terminal(console())
    current = load(sweep)
    stop = Draining("stopping: what runs stops where it can go on, what is done is committed; once more stops at once")
    tried, seconds = 0, 0.0
    try:
        for rounds_left in reversed(range(ROUNDS + 1)):
            summary = start(
                current,
                out,
                audit=audit or 0.0,
                keep_stale=stale == "keep",
                max_failures=0 if fail_fast else max_failures,
                stop=stop,
                observer=terminal,
                resources=resources,
                **options,
            )
            tried, seconds = tried + summary.ran + len(summary.failed), seconds + summary.seconds
            finer = refined(current, brackets(out, current.name)) if rounds_left and not summary.exit_code else None
            if finer is None or stop():
                break
            current = finer
    finally:
        terminal.stop()
        stop.over()
    if stop():
        raise KeyboardInterrupt
    boards = terminal.show()
    _show_summary(summary, out, current.name, terminal)
    took = f"{counted(tried, 'job')} in {duration(seconds)}" if tried else "nothing to run"
    report = _report(out, current.name)
    runs = "" if options["mlflow"] == "off" else f"; runs: {_runs(out, current.name, options['mlflow'], summary)}"
    click.echo(f"{took}; report: {report}{runs}")
    sys.exit(3 if any(board.suspects for board in boards) else summary.exit_code)


def _report(out: str, sweep: str) -> str:
    """Write the report; its path, or why there is none: the sweep is done all the same."""
    from ..driver.reports import write_report

    try:
        return write_report(out, known_sweeps(out, sweep))
    except Exception as error:
        return f"missing ({explained(error).splitlines()[0]}); lfombench report --out {quote(out)} tries again"


def _runs(out: str, sweep: str, mlflow: str | None, summary: Summary) -> str:
    """Describe the sweep in MLflow; the command that shows its runs, or why they are missing."""
    from ..driver.experiments import publish
    from ..redact import redacted

    problem = summary.mlflow_error or publish(out, known_sweeps(out, sweep), mlflow)
    store, given = quote(redacted(out, out)), f" --mlflow {quote(redacted(mlflow, mlflow))}" if mlflow else ""
    if problem:
        return f"not all in MLflow ({problem}); lfombench mlflow sync --out {store}{given} tries again"
    return f"lfombench ui --out {store}{given}"


def _show_summary(summary: Summary, out: str, sweep: str, terminal: Terminal) -> None:
    """Print what a run leaves beside its boards: failures, the profile and the audit."""
    from ..store.filesystem import join
    from .tables import show_profile

    for name, reason in summary.failed[:3]:
        click.echo(f"failed: {name}\n{reason}", err=True)
    if summary.failed:
        sql = "SELECT solver, depth, seed, reason FROM jobs WHERE status = 'failed'"
        click.echo(
            f'{len(summary.failed)} jobs failed; all of them: lfombench query "{sql}" --out {quote(out)}', err=True
        )
    if summary.profile:
        show_profile(terminal.console, summary.profile)
        click.echo(f"trace: {join(out, f'profile/{sweep}.json')}")
    if summary.audit:
        click.echo(str(summary.audit))


@click.command()
@click.argument("sweep")
@OUT
@click.option(
    "--workers", type=click.IntRange(min=1), help="Workers to estimate for. [default: one per core, or some per GPU]"
)
@STALE
@JSON
def plan(sweep: str, out: str, workers: int | None, stale: str, as_json: bool) -> None:
    """Show what SWEEP would run and why: its jobs, as packs, what is done already, and how long the rest takes."""
    from rich.table import Table

    from ..driver.plan import make_plan
    from ..scheduler.devices import here
    from ..spec.labels import label
    from ..spec.loader import load
    from ..store.store import Store
    from .format import counted
    from .terminal import console, estimated, state

    work = make_plan(load(sweep), Store(out), [here(workers)], stale == "keep")
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
