"""All that a sweep's boards have to say, as tables and lines, whatever shows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lfombench.harness.store.manifest import Manifest

from .across import across, across_sheet
from .across import as_json as across_as_json
from .assemble import boards
from .axis import Along, along
from .board import Boards, evenly
from .formats import latex, markdown
from .leaders import leaders_along
from .losses import EXACT, outcomes
from .overview import as_json as along_as_json
from .overview import in_words, overview, short
from .results import Tables
from .severity import standings
from .sheets import Line, Part, Sheet, legend, number, sheet_of


@dataclass(frozen=True)
class Page:
    """A sweep's tables, how to read them, what they say in words, and what is wrong or missing."""

    boards: Boards
    sheets: list[Sheet]
    legend: list[str]
    words: list[str]
    warnings: list[Part]


def page_of(tables: Tables, manifest: Manifest, limits: Mapping[str, float] | None = None) -> Page:
    """A sweep's page, or that of its methods within limits of what they cost. Where the sweep has an axis and names for
    its solvers, it has losses along the axis instead of boards, as a board for each value would be too many.
    """
    sweep = boards(tables, manifest, limits)
    if limits:
        return Page(sweep, [*map(sheet_of, sweep.boards)], legend(sweep), [], _warnings(sweep))
    totals = [across_sheet(one) for one in across(tables, sweep, outcomes(tables, manifest))]
    line = along(tables, manifest) if manifest.named else None
    if line:
        sheets = [*(axis_sheet(line, chart) for chart in line.charts), *totals]
        words = [in_words(one) for one in overview(tables, manifest, line)]
        return Page(sweep, sheets, [axis_legend(line)], words, _warnings(sweep))
    sheets = [*(sheet_of(board) for board in sweep.boards), *totals]
    return Page(sweep, sheets, legend(sweep) if sheets else [], [], _warnings(sweep))


def as_values(tables: Tables, manifest: Manifest, limits: Mapping[str, float] | None = None) -> dict[str, Any]:
    """A sweep's boards, totals across tasks, and losses along its axis as plain values, for scripts."""
    sweep = boards(tables, manifest, limits)
    if limits:
        return sweep.as_json()
    totals = [across_as_json(one) for one in across(tables, sweep, outcomes(tables, manifest))]
    return sweep.as_json() | {"across": totals, "along": along_as_json(tables, manifest) or None}


def written(page: Page, form: str) -> str:
    """A page in Markdown or LaTeX."""
    name, mark = page.boards.sweep, "% " if form == "latex" else ""
    table = latex if form == "latex" else markdown
    parts = [f"{mark}{name}\n" if mark else f"## {name}\n", *map(table, page.sheets)]
    return "\n".join(
        [*parts, *(f"{mark}{line}" for line in [*page.legend, *page.words, *(w.text for w in page.warnings)])]
    )


def _warnings(sweep: Boards) -> list[Part]:
    skipped, stray = len(sweep.skipped), sweep.stray
    lines = [Part(f"suspect: {text}", "bad") for text in sweep.suspects]
    if stray:
        more = f" and {len(stray) - 3} more" if len(stray) > 3 else ""
        lines.append(Part(f"not finite, and so lost: losses of {', '.join(stray[:3])}{more}", "bad"))
    if skipped:
        lines.append(Part(f"{skipped} combination{'s' * (skipped != 1)} skipped, as the sweep asks", "soft"))
    if sweep.mixed:
        lines.append(Part(f"mixed: results come from different versions of {', '.join(sweep.mixed)}", "bad"))
    if sweep.partial:
        lines.append(Part(f"partial: {sweep.done} of {sweep.wanted} jobs of {sweep.sweep} are done", "bad"))
    return lines


def axis_sheet(line: Along, chart: str) -> Sheet:
    """Losses along a sweep's axis as a table; values at which experts were trained have a mark."""
    values = evenly(line.values)
    trained = [f"{short(x)}{' (trained)' if x in line.trained else ''}" for x in values]
    worst = {row.solver: "diverged" if row.diverged else number(row.worst, 2) for row in standings(line, chart)}
    lines = []
    leads = {lead.x: lead.names for lead in leaders_along(line, chart)}
    for row in line.rows(chart):
        cells = [_along(row, x, row["solver"] in leads.get(x, ())) for x in values]
        lines.append(
            Line([[Part(row["solver"])], *cells, [Part(worst.get(row["solver"], ""))]], soft=not row["competes"])
        )
    return Sheet(chart, "", ["solver", *trained, "worst"], lines)


def _along(row: Mapping[str, Any], x: Any, leads: bool) -> list[Part]:
    """A solver's loss at a value of the axis."""
    lost = [Part(row["lost"][x], "bad")] if x in row["lost"] else []
    if x not in row["means"]:
        return lost
    mean, half_width = row["means"][x], row["half_widths"][x]
    text = "exact" if mean < EXACT else number(mean, 2)
    interval = [Part(f"±{number(half_width, 2)}", "soft")] if half_width and mean >= EXACT else []
    return [Part(f"{text}*", "strong") if leads else Part(text), *interval, *lost]


def axis_legend(line: Along) -> str:
    """How to read losses along an axis."""
    trained = "; trained: experts were" if line.trained else ""
    return (
        f"natural log of the mean squared error at the query after {line.depth} layers or steps, by {line.name}; lower "
        "is better; mean over seeds ± half of the 95 % interval; *: may be the best, paired by seed, Holm over all "
        f"pairs of a value; worst: over the values that all have{trained}"
    )
