"""Commands that read a store. They import neither torch nor ray."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from .options import OUT, SWEEP, Limit
from .plain import exact
from .sweeps import NO_SWEEP, known_sweeps

if TYPE_CHECKING:
    from ..store.manifest import Manifest


@click.command()
@SWEEP
@OUT
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "markdown", "latex", "csv", "json"]),
    default="table",
    show_default=True,
    help="csv and json have every number of every cell.",
)
@click.option("--json", "form", flag_value="json", help="The same as --format json.")
@click.option(
    "--at-most",
    "limits",
    multiple=True,
    type=Limit(),
    metavar="COST=NUMBER",
    help="Rank methods at the deepest that so many params, steps, flops (operations for a prompt), prompts or labels "
    "(met in training) allow; may be given several times.",
)
def board(out: str, sweep: str | None, form: str, limits: tuple[tuple[str, float], ...]) -> None:
    """Show the leaderboards of a store, or of its SWEEP: ranks, ties, and which differences are real."""
    from lfombench.analysis.assemble import boards
    from lfombench.analysis.formats import as_csv
    from lfombench.analysis.results import Tables, leaves

    tables, manifests, most = Tables(out), leaves(out, known_sweeps(out, sweep)), dict(limits)
    if twice := next((cost for cost, _ in limits if [name for name, _ in limits].count(cost) > 1), None):
        raise click.UsageError(f"--at-most: {twice} has two limits")
    if form == "json":
        from lfombench.analysis.pages import as_values

        click.echo(json.dumps([as_values(tables, manifest, most) for manifest in manifests], indent=1))
        return
    if not manifests:
        click.echo(NO_SWEEP, err=form != "table")
    if form == "csv":
        exact(as_csv([boards(tables, manifest, most) for manifest in manifests]))
        return
    from lfombench.analysis.pages import page_of, written

    from .tables import show_sweep
    from .terminal import console

    screen = console()
    for manifest in manifests:
        if form == "table":
            show_sweep(screen, tables, manifest, most)
        else:
            click.echo(written(page_of(tables, manifest, most), form))


@click.command()
@click.argument("sql")
@OUT
@click.option("--format", "form", type=click.Choice(["table", "csv", "json"]), default="table", show_default=True)
@click.option("--files", is_flag=True, help="Let SQL read other files too, by read_csv, read_parquet, read_ndjson.")
def query(sql: str, out: str, form: str, files: bool) -> None:
    """Query a store in SQL. Tables: results, jobs, curves, weights; board, what boards show; cases, the fields of
    tasks, solvers and protocols; sweeps, the jobs that each wants.
    """
    import polars as pl

    from lfombench.analysis.opened import Results

    store = Results(out)
    found = store.sql(sql, files=files)
    if found.is_empty() and (missing := unfinished(out, store.known())):
        click.echo(missing, err=True)
    if form == "csv":
        nested = [name for name, kind in found.schema.items() if kind.is_nested()]
        exact(found.with_columns(pl.col(nested).map_elements(str, pl.String)).write_csv())
    elif form == "json":
        click.echo(found.write_json())
    else:
        with pl.Config(
            tbl_rows=1000, tbl_cols=100, fmt_str_lengths=200, tbl_hide_dataframe_shape=True, tbl_width_chars=250
        ):
            click.echo(found)


def unfinished(out: str, manifests: list[Manifest]) -> str | None:
    """How much of a store's sweeps is missing, in words; None where nothing is."""
    from .status import standing

    rows = [row for row in standing(out, manifests)["sweeps"] if row["done"] < row["jobs"]]
    return "; ".join("partial: {done} of {jobs} jobs of {sweep} are done".format(**row) for row in rows) or None


@click.command()
@SWEEP
@OUT
def report(out: str, sweep: str | None) -> None:
    """Write the HTML report of a store, or of its SWEEP."""
    from ..driver.reports import write_report

    click.echo(write_report(out, known_sweeps(out, sweep)))


def brackets(out: str, sweep: str) -> dict[str, list[tuple[str, str]]]:
    """By sweep, parts included: neighbouring tasks between which the ranking of its two crossover solvers changes."""
    from lfombench.analysis.overview import overview
    from lfombench.analysis.results import Tables, leaves

    tables = Tables(out)
    manifests = leaves(out, known_sweeps(out, sweep))
    return {
        manifest.name: [pair for comparison in overview(tables, manifest) for pair in comparison.brackets]
        for manifest in manifests
        if manifest.crossover
    }
