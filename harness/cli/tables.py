"""Tables in the terminal: boards, losses along a sweep's axis, a profile, contradictions of two stores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lfombench.analysis.board import Boards
from lfombench.analysis.pages import page_of
from lfombench.analysis.results import Tables
from lfombench.analysis.sheets import Part, Sheet

from ..store.manifest import Manifest

if TYPE_CHECKING:
    from ..store.merge import Contradiction

BRIEF = 100  # columns of a terminal, below which names are short
STYLES = {"": "", "strong": "bold green", "soft": "not bold dim", "bad": "not bold red"}


SHORT = (
    "LT: linear transformer; CG: conjugate gradients; GD: gradient descent; Σ: covariance; 100 columns have full names"
)


def show_sweep(
    console: Console, tables: Tables, manifest: Manifest, limits: Mapping[str, float] | None = None
) -> Boards:
    """Print and return a sweep's boards, or losses along its axis."""
    page = page_of(tables, manifest, limits)
    console.print(Text(manifest.name, style="bold"))
    for sheet in page.sheets:
        show_sheet(console, sheet)
    for line in page.legend:
        console.print(Text(line), style="dim", highlight=False)
    for line in page.words:
        console.print(Text(line), highlight=False)
    for text, style, _ in page.warnings:
        console.print(Text(text, style=STYLES[style]), highlight=False)
    return page.boards


def show_sheet(console: Console, sheet: Sheet) -> None:
    """Print a table; where the terminal is too narrow for its lines, parts of its cells stand below each other."""
    widths = [max((_width(line.cells[i]) for line in sheet.lines), default=0) for i in range(len(sheet.head))]
    brief = console.width < BRIEF
    narrow = console.width < sum(max(w, len(h)) + 2 for w, h in zip(widths, sheet.head, strict=True))
    title = Text.assemble((sheet.title, "bold"), "  ", (sheet.about, "dim"))
    table = Table(title=title, title_justify="left", title_style="", box=SIMPLE_HEAD)
    for i, name in enumerate(sheet.head):
        words = i in sheet.words
        table.add_column(name, justify="left" if words else "right", overflow="fold", no_wrap=not words)
    for line in sheet.lines:
        cells = [_parts(parts, narrow, brief) for parts in line.cells]
        table.add_row(*cells, style="italic" if line.soft else "")
    console.print(table)
    short = [SHORT] if brief and any(part.brief for line in sheet.lines for cell in line.cells for part in cell) else []
    for note in [*sheet.notes, *short]:
        console.print(Text(note), highlight=False)


def _width(parts: Sequence[Part]) -> int:
    return sum(len(part.text) + 1 for part in parts)


def _parts(parts: Sequence[Part], narrow: bool, brief: bool) -> Text:
    text = Text()
    for part in parts:
        words = part.brief if brief and part.brief else part.text
        words = words.replace("(", "\n  (", 1) if narrow and len(words) > 30 else words
        text.append(("\n" if narrow else " ") if text else "")
        text.append(words, style=STYLES[part.style])
    return text


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
