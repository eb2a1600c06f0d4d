"""Boards as Markdown, LaTeX and CSV, for papers and scripts."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import Any

from .board import Boards
from .sheets import Part, Sheet

SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}


def markdown(sheet: Sheet) -> str:
    """A table in Markdown, with its title and notes."""

    def cell(parts: Sequence[Part], soft: bool) -> str:
        marks = {"strong": "**"}
        text = " ".join(f"{marks.get(style, '')}{text}{marks.get(style, '')}" for text, style, _ in parts)
        text = re.sub(r"([|\\`<])", r"\\\1", text)
        return f"*{text}*" if soft and text and "*" not in text else text

    rows = [sheet.head, ["---"] * len(sheet.head)]
    body = [[cell(parts, line.soft) for parts in line.cells] for line in sheet.lines]
    table = "\n".join(f"| {' | '.join(row)} |" for row in [*rows, *body])
    notes = "".join(f"\n- {note}" for note in sheet.notes)
    about = f"\n{sheet.about}\n" if sheet.about else ""
    return f"### {sheet.title}\n{about}\n{table}\n" + (f"{notes}\n" if notes else "")


def latex(sheet: Sheet) -> str:
    """A table in LaTeX, for the package booktabs."""

    def cell(parts: Sequence[Part], soft: bool) -> str:
        text = " ".join(
            f"\\textbf{{{escaped(text)}}}" if style == "strong" else escaped(text) for text, style, _ in parts
        )
        return f"\\textit{{{text}}}" if soft and text else text

    columns = "".join("l" if i in sheet.words else "r" for i in range(len(sheet.head)))
    body = [" & ".join(cell(parts, line.soft) for parts in line.cells) for line in sheet.lines]
    lines = [
        f"% {sheet.title}: {sheet.about}".rstrip(": "),
        *(f"% {note}" for note in sheet.notes),
        f"\\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        " & ".join(map(escaped, sheet.head)) + r" \\",
        r"\midrule",
        *(f"{row} \\\\" for row in body),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    """Text as LaTeX shows it; numbers with a minus sign."""
    return re.sub(r"(?<![\w.])-(?=\d)", "$-$", "".join(SPECIAL.get(sign, sign) for sign in text))


def records(sweep: Boards) -> Iterable[dict[str, Any]]:
    """Every cell of a sweep's boards with all that is known of it, flat."""
    for board in sweep.boards:
        for row in board.rows:
            for depth, cell in sorted(row.cells.items()):
                above, over = cell.above, cell.over
                best, worst = cell.ranks or (None, None)
                yield {
                    "sweep": sweep.sweep,
                    "task": board.task,
                    "test": board.test,
                    "protocol": board.protocol,
                    "solver": row.solver,
                    "title": row.title,
                    "family": row.family,
                    "told": row.told,
                    "depth": depth,
                    "params": row.params.get(depth),
                    **{name: row.costs.get(depth, {}).get(name) for name in SPENT},
                    **{name: getattr(cell, name) for name in CELL},
                    "rank_best": best,
                    "rank_worst": worst,
                    "ranked": cell.of,
                    "ties": cell.group,
                    "before": above.than if above else None,
                    "difference": above.mean if above else None,
                    "difference_half_width": above.half_width if above else None,
                    "p": above.p if above else None,
                    "verdict": above.words if above else None,
                    "bound": over.than if over else None,
                    "over_bound": over.mean if over else None,
                    "over_bound_half_width": over.half_width if over else None,
                }


SPENT = ("flops", "prompts", "labels")
CELL = (
    *("mean", "half_width", "seeds", "asked", "lost", "pending", "median", "typical", "tail", "outlier", "exact"),
    *("published", "low", "high", "redraws", "suspect", "loose"),
)


COLUMNS = (
    *("sweep", "task", "test", "protocol", "solver", "title", "family", "told", "depth", "params"),
    *SPENT,
    *CELL,
    *("rank_best", "rank_worst", "ranked", "ties", "before", "difference", "difference_half_width", "p", "verdict"),
    *("bound", "over_bound", "over_bound_half_width"),
)


def as_csv(sweeps: Sequence[Boards]) -> str:
    """All cells of all boards, one to a line."""
    rows = [record for sweep in sweeps for record in records(sweep)]
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
