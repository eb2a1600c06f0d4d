"""The command that runs a sweep."""

from __future__ import annotations

import signal
import sys
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from ..signals import Draining, listen
from ..unexpected import explained
from .options import CLUSTER, OUT, STALE, Number, resources, with_options
from .read import brackets
from .sweeps import known_sweeps

if TYPE_CHECKING:
    from ..driver.run import Summary
    from .terminal import Terminal

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
    from ..spec.loader import load
    from ..spec.refine import ROUNDS, refined
    from .format import counted, duration
    from .terminal import Terminal, console

    if options["address"] and options["workers"] == 0:
        raise click.UsageError("--workers 0 runs in this process; it cannot be on a cluster at --address")
    part = resources(options)
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
                resources=part,
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
