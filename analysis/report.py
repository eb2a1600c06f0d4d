"""One self-contained HTML file: what the boards say in words, the boards, charts, provenance. It needs no network."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from shlex import quote
from typing import Any

import jinja2
import polars as pl
from markupsafe import Markup, escape

from lfombench.harness.store.manifest import Manifest

from . import charts, profile_charts, shifts
from .assemble import boards
from .axis import Along, along
from .board import TOLD, Board, Boards
from .costs import COSTS, FRONTS, priced
from .leaders import Lead, leaders_along
from .learned import portraits
from .losses import outcomes
from .overview import overview
from .palette import Palette, palette
from .paper import beside_paper
from .profiles import in_yardsticks, profiles
from .published import TOLERANCE
from .results import Tables, audit, leaves
from .sentences import of_axis, of_board, of_overviews
from .severity import standings
from .sheets import difference_in_words, legend
from .transfer import matrices


def render(out: str, sweeps: list[Manifest]) -> str:
    """The report on these sweeps, as HTML."""
    requested, sweeps = sweeps, leaves(out, sweeps)
    tables = Tables(out)
    compared = beside_paper(tables, sweeps)
    verdicts = Counter(number.verdict for number in compared)
    found = [(sweep, boards(tables, sweep), along(tables, sweep)) for sweep in sweeps]
    solvers = [(row.solver, row.family) for _, made, _ in found for board in made.boards for row in board.rows]
    solvers += [(point.solver, point.family) for *_, line in found if line for point in line.points]
    keys = palette(solvers)
    reports = [_sweep(tables, sweep, made, line, keys) for sweep, made, line in found]
    overviews = [over for report in reports if report["along"] for over, _ in report["along"]["duels"]]
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            title=", ".join(sweep.name for sweep in requested),
            named=[sweep for sweep in requested if sweep.parts and not sweep.jobs],
            compared=compared,
            verdicts=", ".join(f"{count} {verdict}" for verdict, count in verdicts.items()),
            undecided=verdicts["undecided"],
            controlled=any(number.controls for number in compared),
            tolerance=TOLERANCE,
            sweeps=reports,
            keys=keys,
            overviews=overviews,
            overview_words=of_overviews(overviews),
            written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            machines=_machines(tables, sweeps),
            out=out,
            told=TOLD,
        )
    )


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lfombench.analysis", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    minus = "\N{MINUS SIGN}"
    environment.filters["signed"] = lambda value: f"{value:.3f}".replace("-", minus)
    environment.filters["short"] = lambda value: f"{value:.2f}".replace("-", minus)
    environment.filters["value"] = lambda x: f"{x:.3g}".replace("-", minus) if isinstance(x, float) else x
    environment.filters["root"] = lambda r: f"{r.real:.2f}" if abs(r.imag) < 0.005 else f"{r.real:.2f}{r.imag:+.2f}i"
    environment.filters["breakable"] = lambda text: Markup("(<wbr>").join(map(escape, text.split("(")))
    environment.filters["capitalise"] = lambda text: text[:1].upper() + text[1:]
    environment.filters["interactive"] = interactive
    environment.filters["quote"] = quote
    return environment


MARK = re.compile(r'aria-label="([^"]*)"')


def interactive(svg: str, keys: Palette) -> Markup:
    """A chart whose marks know which solver they belong to, so that a script can show and hide them."""

    def tagged(match: re.Match[str]) -> str:
        words = html.unescape(match[1])
        solver = next((part.partition(": ")[2] for part in words.split("; ") if part.startswith("solver: ")), "")
        return f'{match[0]} data-s="{keys[solver].number}"' if solver in keys else match[0]

    return Markup(MARK.sub(tagged, svg))


def _sweep(tables: Tables, sweep: Manifest, result: Boards, line: Along | None, keys: Palette) -> dict[str, Any]:
    plain = not (sweep.axis and sweep.named)  # otherwise its many boards are shown along the axis
    leads = {chart: leaders_along(line, chart) for chart in line.charts} if line else {}
    drawn = _along(tables, sweep, line, leads, keys) if line else None
    own = [board for board in result.boards if board.test == board.task]
    zeros = tables.zeros
    said = [(board, of_board(board)) for board in sorted(own, key=_methods)] if plain and not line else []
    return {
        "boards": result,
        "verdicts": [(board, lines) for board, lines in said if lines],
        "along_verdicts": [text for chart in line.charts for text in of_axis(line, chart, leads[chart])]
        if line
        else [],
        "several_tasks": len({board.task for board, _ in said}) > 1,
        "calibration": _calibration(tables, sweep),
        "audit": audit(tables.out, sweep.name),
        "along": drawn,
        "transfer": [(matrix, shifts.heat(matrix)) for matrix in matrices(tables, sweep)],
        "legend": legend(result),
        "profiles": [
            (one, profile_charts.solved(one, keys), profile_charts.solved(one, keys, ratios=True))
            for one in (profiles(outcomes(tables, sweep), zeros) if plain else [])
        ],
        "sections": [
            {
                "board": board,
                "words": {row.solver: _difference(board, row.solver) for row in board.rows},
                "chart": charts.loss_by_depth(board, keys) if board.drawable and plain else None,
                "over": charts.over_bound(board, keys) if plain and board.test == board.task else None,
                "yardsticks": _yardsticks(board, zeros, keys) if plain and board.test == board.task else None,
                "fronts": _fronts(board, keys) if plain and board.test == board.task else [],
                "learned": _learned(tables, sweep, board, keys) if board.test == board.task and plain else [],
                "curves": _curves(tables, sweep, board, keys) if board.test == board.task and plain else [],
            }
            for board in result.boards
        ],
    }


def _methods(board: Board) -> int:
    """Sorts boards, those with most methods first: they say most."""
    return -sum(row.competes for row in board.rows)


def _difference(board: Board, solver: str) -> str:
    """A method's difference to the one before it, in words."""
    [row] = [row for row in board.rows if row.solver == solver]
    cell = row.cells.get(board.ranked_at) if board.ranked_at is not None else None
    return " ".join(part.text for part in difference_in_words(cell.above)) if cell and cell.above else ""


def _yardsticks(board: Board, zeros: Mapping[tuple[str, str], float], keys: Palette) -> str | None:
    """A chart of layers in steps of conjugate gradients."""
    return profile_charts.yardsticks(in_yardsticks(board, zeros.get((board.task, board.test))), keys)


def _fronts(board: Board, keys: Palette) -> list[tuple[str, str]]:
    """Charts of loss against each cost that differs between methods, with what the cost is."""
    found = [(COSTS[cost], priced(board, cost)) for cost in FRONTS]
    return [(title, profile_charts.front(one, title, keys)) for title, one in found if len({p.cost for p in one}) > 1]


def _along(
    tables: Tables, sweep: Manifest, line: Along, leads: Mapping[str, Sequence[Lead]], keys: Palette
) -> dict[str, Any]:
    """Charts and a table of losses along the field that a sweep varies."""
    overviews = overview(tables, sweep, line)
    return {
        "line": line,
        "charts": [(chart, shifts.along(line, chart, keys)) for chart in line.charts],
        "leads": {chart: {lead.x: lead.names for lead in found} for chart, found in leads.items()},
        "standings": {
            chart: {standing.solver: standing for standing in standings(line, chart)} for chart in line.charts
        },
        "duels": [(over, shifts.duel(line, over.found)) for over in overviews],
        "members": {name: labels for name, labels in sweep.named.items() if name in keys},
    }


def _learned(tables: Tables, sweep: Manifest, board: Board, keys: Palette) -> list[dict[str, Any]]:
    """Portraits of the methods with a residual polynomial, and a chart, grouped by the matrix of the polynomial."""
    if board.redraws > 1 or board.memorised:
        return []
    learned = portraits(tables, sweep, board.task, board.protocol)
    groups = [[method for method in learned if method.known == known] for known in ("identity", "covariance")]
    return [
        {"known": group[0].known, "portraits": group, "chart": charts.polynomials(group, keys)}
        for group in groups
        if len(group) > 1
    ]


def _curves(tables: Tables, sweep: Manifest, board: Board, keys: Palette) -> list[dict[str, Any]]:
    """A chart of training losses for each depth."""
    if board.redraws > 1:
        return []
    ours = pl.col("job").is_in(sweep.jobs) & (pl.col("task") == board.task) & (pl.col("protocol") == board.protocol)
    jobs = tables.jobs.filter(ours).select("job", "solver", "depth").collect()
    curves = (
        tables.frame("curves", where=pl.col("job").is_in(jobs["job"].implode()))
        .join(jobs, on="job")
        .filter(pl.col("loss").is_finite() & (pl.col("loss") > 0))
        .group_by("solver", "depth", "step")
        .agg(pl.col("loss").log().mean())
        .sort("depth", "solver", "step")
    )
    return [
        {"depth": depth, "chart": charts.training(curve.drop("depth"), keys)}
        for (depth,), curve in curves.group_by("depth", maintain_order=True)
    ]


def _calibration(tables: Tables, sweep: Manifest) -> dict[str, Any] | None:
    """The predicted and actual seconds of packs; None where fewer than two were predicted."""
    packs = (
        tables.jobs.filter(pl.col("job").is_in(sweep.jobs) & pl.col("predicted_seconds").is_not_null())
        .filter(pl.col("pack_seconds") > 0)
        .unique("pack")
        .sort("pack")
        .collect()
    )
    if packs.height < 2:
        return None
    inside = packs["pack_seconds"].is_between(packs["predicted_low"], packs["predicted_high"])
    ratio = packs["pack_seconds"] / packs["predicted_seconds"]
    return {
        "chart": charts.calibration(packs),
        "packs": packs.height,
        "inside": float(inside.mean() or 0.0),  # type: ignore[arg-type]
        "ratio": float(ratio.median() or 0.0),  # type: ignore[arg-type]
    }


def _machines(tables: Tables, sweeps: list[Manifest]) -> dict[str, Any]:
    """The machines that computed the numbers: devices, versions, and seconds of computing."""
    ids = {job for sweep in sweeps for job in sweep.jobs}
    jobs = tables.jobs.filter(pl.col("job").is_in(list(ids))).collect()
    packs = jobs.unique("pack")
    return {
        "devices": sorted(jobs["device"].drop_nulls().unique()),
        "hosts": jobs["host"].n_unique(),
        "versions": sorted(jobs["version"].drop_nulls().unique()),
        "seconds": float(packs["pack_seconds"].sum() or 0.0),
        "packs": packs.height,
    }
