"""One self-contained HTML file: boards, loss against depth, training curves. No script, no network."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import jinja2
import polars as pl
from markupsafe import Markup, escape

from lfombench.harness.store.manifest import Manifest

from . import charts, shifts
from .assemble import boards
from .axis import along
from .board import Board
from .learned import portraits
from .overview import overview
from .paper import beside_paper
from .published import TOLERANCE
from .results import Tables, audit, leaves
from .severity import standings
from .transfer import matrices


def render(out: str, sweeps: list[Manifest]) -> str:
    """The report on these sweeps, as HTML."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lfombench.analysis", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["signed"] = lambda value: f"{value:.3f}".replace("-", "\N{MINUS SIGN}")
    environment.filters["short"] = lambda value: f"{value:.2f}".replace("-", "\N{MINUS SIGN}")
    environment.filters["value"] = lambda x: f"{x:.3g}".replace("-", "\N{MINUS SIGN}") if isinstance(x, float) else x
    environment.filters["root"] = lambda r: f"{r.real:.2f}" if abs(r.imag) < 0.005 else f"{r.real:.2f}{r.imag:+.2f}i"
    environment.filters["breakable"] = lambda text: Markup("(<wbr>").join(map(escape, text.split("(")))
    requested, sweeps = sweeps, leaves(out, sweeps)
    tables = Tables(out)
    compared = beside_paper(tables, sweeps)
    verdicts = Counter(number.verdict for number in compared)
    sweep_reports = [_sweep(tables, sweep) for sweep in sweeps]
    return environment.get_template("report.html.j2").render(
        title=", ".join(sweep.name for sweep in requested),
        named=[sweep for sweep in requested if sweep.parts],
        compared=compared,
        verdicts=", ".join(f"{count} {verdict}" for verdict, count in verdicts.items()),
        undecided=verdicts["undecided"],
        controlled=any(number.controls for number in compared),
        tolerance=TOLERANCE,
        sweeps=sweep_reports,
        overviews=[over for report in sweep_reports if report["along"] for over, _ in report["along"]["duels"]],
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        machines=_machines(tables, sweeps),
    )


def _sweep(tables: Tables, sweep: Manifest) -> dict[str, Any]:
    result = boards(tables, sweep)
    palette = charts.palette((row.solver, row.family) for board in result.boards for row in board.rows)
    plain = not (sweep.axis and sweep.named)  # otherwise its many boards are shown along the axis
    return {
        "boards": result,
        "palette": palette,
        "calibration": _calibration(tables, sweep),
        "audit": audit(tables.out, sweep.name),
        "along": _along(tables, sweep),
        "transfer": [(matrix, shifts.heat(matrix)) for matrix in matrices(tables, sweep)],
        "sections": [
            {
                "board": board,
                "palette": palette,
                "chart": charts.loss_by_depth(board, palette) if board.drawable and plain else None,
                "learned": _learned(tables, sweep, board, palette) if board.test == board.task and plain else [],
                "curves": _curves(tables, sweep, board, palette) if board.test == board.task and plain else [],
            }
            for board in result.boards
        ],
    }


def _along(tables: Tables, sweep: Manifest) -> dict[str, Any] | None:
    """Charts and a table of losses along the field that a sweep varies; None where it varies none."""
    line = along(tables, sweep)
    if line is None:
        return None
    palette = charts.palette((point.solver, point.family) for point in line.points)
    overviews = overview(tables, sweep, line)
    return {
        "line": line,
        "palette": palette,
        "charts": [(chart, shifts.along(line, chart, palette)) for chart in line.charts],
        "standings": {
            chart: {standing.solver: standing for standing in standings(line, chart)} for chart in line.charts
        },
        "duels": [(over, shifts.duel(line, over.found)) for over in overviews],
        "members": {name: labels for name, labels in sweep.named.items() if name in palette},
    }


def _learned(tables: Tables, sweep: Manifest, board: Board, palette: charts.Palette) -> list[dict[str, Any]]:
    """Portraits of the methods with a residual polynomial, and a chart, grouped by the matrix of the polynomial."""
    if board.redraws > 1 or board.memorised:
        return []
    learned = portraits(tables, sweep, board.task, board.protocol)
    groups = [[method for method in learned if method.known == known] for known in ("identity", "covariance")]
    return [
        {"known": group[0].known, "portraits": group, "chart": charts.polynomials(group, palette)}
        for group in groups
        if len(group) > 1
    ]


def _curves(tables: Tables, sweep: Manifest, board: Board, palette: charts.Palette) -> list[dict[str, Any]]:
    """A chart of training losses for each depth."""
    if board.redraws > 1:
        return []
    jobs = tables.jobs.filter(
        pl.col("job").is_in(sweep.jobs) & (pl.col("task") == board.task) & (pl.col("protocol") == board.protocol)
    )
    curves = (
        tables.curves.join(jobs.select("job", "solver", "depth"), on="job")
        .filter(pl.col("loss").is_finite() & (pl.col("loss") > 0))
        .group_by("solver", "depth", "step")
        .agg(pl.col("loss").log().mean())
        .sort("depth", "solver", "step")
        .collect()
    )
    return [
        {"depth": depth, "chart": charts.training(curve.drop("depth"), palette)}
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
