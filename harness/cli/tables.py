"""A sweep along its axis, in the terminal: a table of solvers by values, and who beats whom where."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lfombench.analysis.axis import Along
from lfombench.analysis.board import evenly
from lfombench.analysis.overview import Overview
from lfombench.analysis.severity import standings


def show_line(console: Console, line: Along, overviews: list[Overview]) -> None:
    """Every chart as a table."""
    for chart in line.charts:
        console.print(_table(line, chart))
    console.print(
        f"natural log of the mean squared error at the query after {line.depth} layers or steps, by {line.name};\n"
        "lower is better; worst: over the values that all have; underlined: where experts were trained",
        style="dim",
        highlight=False,
    )
    for one in overviews:
        console.print(Text(said(one)))


def said(one: Overview) -> str:
    """`three experts against best expert with a scale: better at 2, 4; worse at 0.5; even at 1; they cross at 0.8`."""
    parts = [
        f"{verdict} at {', '.join(map(_short, one.at(verdict)))}"
        for verdict in ("better", "worse", "even")
        if one.at(verdict)
    ]
    crossed = [f"{_short(cross.at)}{'' if cross.sure else ' (within chance)'}" for cross in one.crossings]
    parts += [f"they cross at {', '.join(crossed)}"] if crossed else []
    chart = f", {one.chart}" if one.chart else ""
    return f"{one.names[0]} against {one.names[1]}{chart}: {'; '.join(parts)}"


def _table(line: Along, chart: str) -> Table:
    made = Table(title=chart or None, title_justify="left", box=SIMPLE_HEAD)
    made.add_column("solver", overflow="fold")
    values = evenly(line.values)
    for x in values:
        style = "underline" if x in line.trained else ""
        made.add_column(Text(_short(x), style=style), justify="right", no_wrap=True)
    made.add_column("worst", justify="right")
    worst = {one.solver: "diverged" if one.diverged else f"{one.worst:.2f}" for one in standings(line, chart)}
    for row in line.rows(chart):
        cells = [f"{row['means'][x]:.2f}" if x in row["means"] else "" for x in values]
        made.add_row(row["solver"], *cells, worst.get(row["solver"], ""), style="" if row["competes"] else "italic")
    return made


def _short(x: object) -> str:
    return f"{x:.3g}" if isinstance(x, float) else str(x)
