"""The commands. Heavy imports wait inside them, so that `--help` is quick."""

from __future__ import annotations

import json
import signal
import sys
import traceback
from typing import TYPE_CHECKING, Any

import click

from .errors import UserError, nearest

if TYPE_CHECKING:
    from lfombench.analysis.results import Wanted

OUT = click.option(
    "--out", default="out", show_default=True, metavar="DIR", help="The store: a folder or s3://bucket/prefix."
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
ADDRESS = click.option(
    "--address", required=True, metavar="URL", help="The cluster's dashboard, such as http://head:8265."
)


class Commands(click.Group):
    """A group that knows what was meant."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """A command by its name, or a usage error with the nearest one."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            ctx.fail(f"no command {args[0]!r}; {nearest(args[0], self.commands)}")
        return super().resolve_command(ctx, args)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="lfombench")
@click.option("--debug", is_flag=True, help="Show tracebacks. Works anywhere on the line.")
def cli(debug: bool) -> None:
    """Benchmark learned linear first-order methods: thousands of training jobs from one file.

    SWEEP is a YAML or Python file, or the name of a shipped sweep.

    Exit codes: 0 all jobs done, 1 error, 2 usage, 3 finished but jobs failed, diverged or are missing.
    """


@cli.command()
@click.argument("sweep")
@OUT
@click.option(
    "--address", metavar="HOST:PORT", help="A Ray cluster, or auto on one of its machines. [default: Ray here]"
)
@click.option(
    "--workers", type=click.IntRange(min=0), help="How many; 0 runs in this process. [default: one per core or GPU]"
)
@click.option("--mlflow", metavar="URI", help="A tracking server, or off. [default: SQLite in the store]")
def run(sweep: str, out: str, address: str | None, workers: int | None, mlflow: str | None) -> None:
    """Run what SWEEP still lacks, then show its boards."""
    from .launch import run as start
    from .show import Terminal, console, duration, show_boards
    from .sweep import load

    if address and workers == 0:
        raise click.UsageError("--workers 0 runs in this process; it cannot be on a cluster at --address")
    signal.signal(signal.SIGTERM, _interrupt)
    terminal = Terminal(console())
    wanted = load(sweep)
    try:
        summary = start(wanted, out, address=address, workers=workers, mlflow=mlflow, observer=terminal)
    finally:
        terminal.stop()
    found = terminal.boards()
    show_boards(terminal.console, found)
    for job, reason in summary.failed[:3]:
        click.echo(f"failed: job {job}\n{reason}", err=True)
    if summary.failed:
        click.echo(
            f"{len(summary.failed)} jobs failed; their tracebacks are in the jobs table, column reason", err=True
        )
    if summary.mlflow_error:
        click.echo(f"MLflow could not be written: {summary.mlflow_error}. The same command tries again.", err=True)
    path = _write_report(out, [wanted.name])
    took = f"{summary.ran} jobs in {duration(summary.seconds)}" if summary.ran else "nothing to run"
    click.echo(f"{took}; report: {path}; runs: lfombench ui --out {out}")
    sys.exit(summary.exit_code)


@cli.command()
@click.argument("sweep")
@OUT
@click.option("--workers", type=click.IntRange(min=1), help="For the estimate. [default: one per core]")
@JSON
def plan(sweep: str, out: str, workers: int | None, as_json: bool) -> None:
    """Show what SWEEP would run: its jobs, as packs, what is done already, and how long the rest takes."""
    from rich.table import Table

    from .job import label
    from .launch import make_plan
    from .plan import work
    from .schedule import cores
    from .show import console, expected
    from .store import Store
    from .sweep import load

    store = Store(out)
    made = make_plan(load(sweep), store, workers or cores())
    rate = store.history() or 1.0
    packs = [
        {
            "pack": pack.id,
            "solver": label(pack.first.solver),
            "depth": pack.first.solver.depth,
            "protocol": label(pack.first.protocol),
            "jobs": len(pack.jobs),
            "models": pack.members,
            "seconds": round(work(pack) * rate, 1),
        }
        for pack in made.packs
    ]
    if as_json:
        head = {"sweep": made.sweep.name, "jobs": len(made.jobs), "done": made.done, "to_run": made.to_run}
        click.echo(json.dumps(head | {"seconds": round(made.estimate.seconds, 1), "packs": packs}, indent=1))
        return
    screen = console()
    if packs:
        table = Table("solver", "depth", "protocol", "jobs", "models", "seconds")
        for column in table.columns[1:2] + table.columns[3:]:
            column.justify = "right"
        for pack in packs:
            table.add_row(*(str(pack[key]) for key in ("solver", "depth", "protocol", "jobs", "models", "seconds")))
        screen.print(table)
    rest = f" in {len(packs)} packs, {expected(made.estimate)}" if packs else ""
    screen.print(
        f"{made.sweep.name}: {len(made.jobs)} jobs, {made.done} done, {made.to_run} to run{rest}", highlight=False
    )


@cli.command()
@OUT
@click.option("--sweep", help="One sweep of the store. [default: all]")
@JSON
def status(out: str, sweep: str | None, as_json: bool) -> None:
    """Say how far the sweeps of a store are."""
    import polars as pl
    from lfombench.analysis.board import boards
    from lfombench.analysis.results import table

    rows = []
    for wanted in _wanted(out, sweep):
        found = boards(out, wanted)
        failed = (
            table(out, "jobs")
            .filter(pl.col("job").is_in(wanted.jobs) & (pl.col("status") == "failed"))
            .collect()
            .height
        )
        rows.append(
            {
                "sweep": wanted.name,
                "jobs": found.wanted,
                "done": found.done,
                "failed": failed,
                "diverged": found.diverged,
            }
        )
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    for row in rows:
        click.echo("{sweep}: {done} of {jobs} jobs done, {failed} failed, {diverged} diverged".format(**row))


@cli.command()
@OUT
@click.option("--sweep", help="One sweep of the store. [default: all]")
@JSON
def board(out: str, sweep: str | None, as_json: bool) -> None:
    """Show the leaderboards of a store."""
    from lfombench.analysis.board import boards

    from .show import console, show_boards

    found = [boards(out, wanted) for wanted in _wanted(out, sweep)]
    if as_json:
        click.echo(json.dumps([each.as_json() for each in found], indent=1))
        return
    screen = console()
    for each in found:
        show_boards(screen, each)


@cli.command()
@click.argument("sql")
@OUT
@click.option("--format", "form", type=click.Choice(["table", "csv", "json"]), default="table", show_default=True)
def query(sql: str, out: str, form: str) -> None:
    """Ask a store in SQL. Tables: results, jobs, curves."""
    import polars as pl
    from lfombench.analysis.results import table

    from .schema import TABLES

    _wanted(out, None)
    context = pl.SQLContext({name: table(out, name) for name in TABLES})
    try:
        answer = context.execute(sql, eager=True)
    except pl.exceptions.PolarsError as error:
        tables = "; ".join(f"{name}({', '.join(c.name for c in columns)})" for name, columns in TABLES.items())
        raise UserError(f"this SQL cannot be answered: {error}\nTables: {tables}") from error
    if form == "csv":
        nested = [name for name, kind in answer.schema.items() if kind.is_nested()]
        click.echo(answer.with_columns(pl.col(nested).map_elements(str, pl.String)).write_csv(), nl=False)
    elif form == "json":
        click.echo(answer.write_json())
    else:
        with pl.Config(
            tbl_rows=1000, tbl_cols=100, fmt_str_lengths=200, tbl_hide_dataframe_shape=True, tbl_width_chars=250
        ):
            click.echo(answer)


@cli.command()
@OUT
@click.option("--sweep", help="One sweep of the store. [default: all]")
def report(out: str, sweep: str | None) -> None:
    """Write the store's HTML report."""
    click.echo(_write_report(out, [wanted.name for wanted in _wanted(out, sweep)]))


@cli.command()
@OUT
@click.option("--port", type=click.IntRange(1, 65535), help="[default: 5000, or the next that is free]")
@click.option("--mlflow", metavar="URI", help="Show this tracking store. [default: SQLite in the store]")
def ui(out: str, port: int | None, mlflow: str | None) -> None:
    """Start MLflow's UI on this machine and print its address; Ctrl-C ends it."""
    from .ui import serve

    if mlflow is None:
        _wanted(out, None)
    signal.signal(signal.SIGTERM, _interrupt)
    sys.exit(serve(out, port, mlflow))


@cli.command()
@click.argument("sweep")
@ADDRESS
@click.option(
    "--out", required=True, metavar="URI", help="The store: a folder that all nodes share, or s3://bucket/prefix."
)
@click.option(
    "--code", type=click.Path(exists=True, file_okay=False), help="A folder with your tasks and solvers, sent along."
)
@click.option("--workers", type=click.IntRange(min=1), help="[default: one per core or GPU of the cluster]")
@click.option("--mlflow", metavar="URI", help="A tracking server, or off.")
@click.option("--no-wait", is_flag=True, help="Return at once instead of following the log.")
def submit(
    sweep: str, address: str, out: str, code: str | None, workers: int | None, mlflow: str | None, no_wait: bool
) -> None:
    """Run SWEEP on a cluster, through Ray Jobs, and follow its log."""
    from lfombench.cluster import jobs

    from .sweep import load

    if code:
        sys.path.insert(0, code)
    load(sweep)
    options = (["--workers", str(workers)] if workers else []) + (["--mlflow", mlflow] if mlflow else [])
    job = jobs.submit(sweep, address=address, out=out, code=code, options=options)
    click.echo(f"submitted {job}; lfombench logs {job} --address {address}; lfombench stop {job} --address {address}")
    if no_wait:
        return
    for text in jobs.follow(job, address):
        click.echo(text, nl=False)
    end = jobs.status(job, address)
    click.echo(f"{job}: {end.lower()}")
    sys.exit(jobs.ENDED.get(end, 1))


@cli.command()
@click.argument("job")
@ADDRESS
@click.option("--follow", is_flag=True, help="Go on until the job ends.")
def logs(job: str, address: str, follow: bool) -> None:
    """Show the log of a submitted JOB."""
    from lfombench.cluster import jobs

    if not follow:
        click.echo(jobs.log(job, address), nl=False)
        return
    for text in jobs.follow(job, address):
        click.echo(text, nl=False)


@cli.command()
@click.argument("job")
@ADDRESS
def stop(job: str, address: str) -> None:
    """End a submitted JOB; what it committed stays."""
    from lfombench.cluster import jobs

    jobs.stop(job, address)
    click.echo(f"{job}: stopping; submit its sweep again to go on from what is committed")


@cli.command()
@JSON
def tasks(as_json: bool) -> None:
    """List the tasks and their fields."""
    from lfombench.tasks import TASKS

    from .listing import show

    show(TASKS, as_json)


@cli.command()
@JSON
def solvers(as_json: bool) -> None:
    """List the solvers and their fields."""
    from lfombench.solvers import SOLVERS

    from .listing import show

    show(SOLVERS, as_json)


def _wanted(out: str, sweep: str | None) -> list[Wanted]:
    """The sweeps of a store, or the one of that name."""
    from lfombench.analysis.results import NoStore, sweeps

    try:
        found = sweeps(out)
    except NoStore as error:
        raise UserError(str(error)) from error
    if sweep is None:
        return found
    named = [wanted for wanted in found if wanted.name == sweep]
    if not named:
        raise UserError(f"no sweep {sweep!r} in {out}; {nearest(sweep, [wanted.name for wanted in found])}")
    return named


def _write_report(out: str, names: list[str]) -> str:
    from lfombench.analysis.report import render

    from .place import locate

    html = render(out, [wanted for wanted in _wanted(out, None) if wanted.name in names])
    files, root = locate(out)
    try:
        files.create_dir(f"{root}/report", recursive=True)
        with files.open_output_stream(f"{root}/report/index.html") as stream:
            stream.write(html.encode())
    except OSError as error:
        raise UserError(f"the report cannot be written to {out}: {error}") from error
    return f"{out.rstrip('/')}/report/index.html"


def _interrupt(signum: int, frame: Any) -> None:
    raise KeyboardInterrupt


def main() -> None:
    """The console script."""
    debug = "--debug" in sys.argv[1:]
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    sys.path.insert(0, "")  # tasks and solvers named package.module:Class may lie in the current folder
    try:
        sys.exit(cli.main(arguments, prog_name="lfombench", standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped; what was committed is safe, and the same command goes on from there", err=True)
        sys.exit(3)
    except UserError as error:
        if debug:
            traceback.print_exc()
        click.echo(f"Error: {error}", err=True)
        sys.exit(error.exit_code)
    except Exception as error:
        if debug:
            raise
        click.echo(
            f"Error: {type(error).__name__}: {error}\nThis looks like a fault of lfombench; --debug shows where.",
            err=True,
        )
        sys.exit(1)


if __name__ == "__main__":
    main()
