"""Commands that list what a sweep can name: tasks, solvers, protocols and shipped sweeps."""

from __future__ import annotations

import json

import click

from .options import JSON


@click.command()
@JSON
def tasks(as_json: bool) -> None:
    """List the classes of tasks with their fields, and the named tasks of the catalogue."""
    from lfombench.tasks import CATALOG, TASKS

    from .fields import show

    show(TASKS, as_json, CATALOG)


@click.command()
@JSON
def solvers(as_json: bool) -> None:
    """List the solvers and their fields."""
    from lfombench.solvers import SOLVERS

    from .fields import show

    show(SOLVERS, as_json)


@click.command()
@JSON
def protocols(as_json: bool) -> None:
    """List the protocols and their fields."""
    from .fields import show_protocols

    show_protocols(as_json)


@click.group(invoke_without_command=True)
@click.pass_context
def sweeps(context: click.Context) -> None:
    """List the sweeps that come with lfombench, or compare two."""
    if context.invoked_subcommand:
        return
    from ..spec.loader import load, shipped

    for name in shipped():
        sweep = load(name)
        click.echo(f"{click.style(name, bold=True)}: {len(sweep)} jobs. {' '.join(sweep.about.split())}\n")


@sweeps.command()
@click.argument("first")
@click.argument("second")
@JSON
def diff(first: str, second: str, as_json: bool) -> None:
    """Count the jobs that two sweeps share and those that only one has, by solver and protocol."""
    from rich.table import Table

    from ..spec.loader import load
    from ..spec.sweep import compared
    from .terminal import console

    rows = compared(load(first), load(second))
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    several = len({row["task"] for row in rows}) > 1
    table = Table(*(["task"] if several else []), "solver", "depths", "protocol", "first", "both", "second")
    for column in table.columns[-3:]:
        column.justify = "right"
    for row in rows:
        if row["first"] or row["second"]:
            row["depths"] = ", ".join(map(str, row["depths"]))
            table.add_row(*(str(row[str(column.header)]) for column in table.columns))
    screen = console()
    if table.rows:
        screen.print(table)
    left, both, right = (sum(row[key] for row in rows) for key in ("first", "both", "second"))
    screen.print(f"{left} jobs only in {first}, {both} in both, {right} only in {second}", highlight=False)
