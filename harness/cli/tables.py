"""Tables in the terminal: boards, losses along a sweep's axis, a profile, contradictions of two stores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lfombench.analysis.assemble import boards
from lfombench.analysis.axis import Along, along
from lfombench.analysis.board import Boards, evenly
from lfombench.analysis.overview import Overview, overview
from lfombench.analysis.results import Tables
from lfombench.analysis.severity import standings
from lfombench.analysis.sheets import Part, Sheet, legend, sheet_of

from ..store.manifest import Manifest
from .format import counted

if TYPE_CHECKING:
    from ..store.merge import Contradiction

STYLES = {"": "", "strong": "bold green", "soft": "not bold dim", "bad": "not bold red"}


def show_sweep(console: Console, tables: Tables, manifest: Manifest) -> Boards:
    """Print and return a sweep's boards. Where the sweep has an axis and names for its solvers, print losses along the
    axis instead, as a board for each value would be too many.
    """
    sweep = boards(tables, manifest)
    console.print(Text(sweep.sweep, style="bold"))
    line = along(tables, manifest) if manifest.named else None
    if line:
        show_line(console, line, overview(tables, manifest, line))
    else:
        _show_boards(console, sweep)
    for text in sweep.suspects:
        console.print(Text(f"suspect: {text}", style="bold red"))
    if sweep.skipped:
        console.print(f"{counted(len(sweep.skipped), 'combination')} skipped, as the sweep asks", style="dim")
    if sweep.mixed:
        text = f"mixed: results come from different versions of {', '.join(sweep.mixed)}"
        console.print(Text(text, style="bold red"))
    if sweep.partial:
        console.print(
            Text(f"partial: {sweep.done} of {sweep.wanted} jobs of {sweep.sweep} are done", style="bold yellow")
        )
    return sweep


def _show_boards(console: Console, sweep: Boards) -> None:
    """Print the boards of a sweep, and how to read them."""
    for board in sweep.boards:
        show_sheet(console, sheet_of(board))
    for line in legend(sweep) if sweep.boards else []:
        console.print(Text(line), style="dim", highlight=False)


def show_sheet(console: Console, sheet: Sheet) -> None:
    """Print a table; where the terminal is too narrow for its lines, parts of its cells stand below each other."""
    widths = [max(_width(line.cells[i]) for line in sheet.lines) for i in range(len(sheet.head))]
    narrow = console.width < sum(max(w, len(h)) + 2 for w, h in zip(widths, sheet.head, strict=True))
    title = Text.assemble((sheet.title, "bold"), "  ", (sheet.about, "dim"))
    table = Table(title=title, title_justify="left", title_style="", box=SIMPLE_HEAD)
    for name in sheet.head:
        word = name == "solver" or name.startswith(("rank", "to "))
        table.add_column(name, justify="left" if word else "right", overflow="fold", no_wrap=not word)
    for line in sheet.lines:
        cells = [_parts(parts, narrow) for parts in line.cells]
        table.add_row(*cells, style="italic" if line.soft else "")
    console.print(table)
    for note in sheet.notes:
        console.print(Text(note), highlight=False)


def _width(parts: Sequence[Part]) -> int:
    return sum(len(part.text) + 1 for part in parts)


def _parts(parts: Sequence[Part], narrow: bool) -> Text:
    text = Text()
    for part in parts:
        words = part.text.replace("(", "\n  (", 1) if narrow and len(part.text) > 30 else part.text
        text.append(("\n" if narrow else " ") if text else "")
        text.append(words, style=STYLES[part.style])
    return text


def show_line(console: Console, line: Along, overviews: list[Overview]) -> None:
    """Print every chart of losses along a sweep's axis as a table, then its comparisons of two solvers."""
    for chart in line.charts:
        console.print(_axis_table(line, chart))
    console.print(
        f"natural log of the mean squared error at the query after {line.depth} layers or steps, by {line.name};\n"
        "lower is better; worst: over the values that all have; underlined: where experts were trained",
        style="dim",
        highlight=False,
    )
    for comparison in overviews:
        console.print(Text(in_words(comparison)))


def in_words(comparison: Overview) -> str:
    """A comparison of two solvers along an axis in words.

    `three experts against best expert with a scale: better at 2, 4; worse at 0.5; even at 1; they cross at 0.8`
    """
    parts = [
        f"{verdict} at {', '.join(map(_short, comparison.at(verdict)))}"
        for verdict in ("better", "worse", "even")
        if comparison.at(verdict)
    ]
    crossings = [f"{_short(cross.at)}{'' if cross.sure else ' (within chance)'}" for cross in comparison.crossings]
    parts += [f"they cross at {', '.join(crossings)}"] if crossings else []
    chart = f", {comparison.chart}" if comparison.chart else ""
    return f"{comparison.names[0]} against {comparison.names[1]}{chart}: {'; '.join(parts)}"


def _axis_table(line: Along, chart: str) -> Table:
    table = Table(title=chart or None, title_justify="left", box=SIMPLE_HEAD)
    table.add_column("solver", overflow="fold")
    values = evenly(line.values)
    for x in values:
        style = "underline" if x in line.trained else ""
        table.add_column(Text(_short(x), style=style), justify="right", no_wrap=True)
    table.add_column("worst", justify="right")
    worst = {row.solver: "diverged" if row.diverged else f"{row.worst:.2f}" for row in standings(line, chart)}
    for row in line.rows(chart):
        cells = [f"{row['means'][x]:.2f}" if x in row["means"] else "" for x in values]
        table.add_row(row["solver"], *cells, worst.get(row["solver"], ""), style="" if row["competes"] else "italic")
    return table


def _short(x: object) -> str:
    return f"{x:.3g}" if isinstance(x, float) else str(x)


def show_profile(console: Console, seconds: dict[str, float]) -> None:
    """Print the seconds of all workers by what they went to."""
    total = sum(value for name, value in seconds.items() if name != "commit")
    table = Table(
        "", "seconds", "share", "", box=SIMPLE_HEAD, title="where the workers' time went", title_justify="left"
    )
    for column in table.columns[1:3]:
        column.justify = "right"
    for name, value in seconds.items():
        share = value / total if total else 0.0
        label = f"{name} (driver)" if name == "commit" else name
        table.add_row(label, f"{value:.1f}", f"{share:.1%}", "█" * round(40 * share))
    console.print(table)


def contradiction_table(conflict: Contradiction) -> Table:
    """A table of two contradictory rows, side by side."""
    table = Table("", *conflict.stores, title=f"job {conflict.ours['job']}", title_justify="left")
    for name in ("solver", "depth", "seed", "protocol", "task", "test", "step", "status", "mse", "log_mse", "code"):
        table.add_row(name, str(conflict.ours[name]), str(conflict.theirs[name]))
    return table
