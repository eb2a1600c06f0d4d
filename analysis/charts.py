"""Charts as Vega-Lite declarations, rendered as SVG without a browser."""

from __future__ import annotations

import html
import json
import logging
import math
from typing import Any

import altair as alt
import numpy as np
import polars as pl

from .board import Board
from .learned import REACH, Portrait
from .palette import COLOURS, Palette, colour, dash, shape
from .titles import short

log = logging.getLogger("lfombench")

WIDTH, HEIGHT = 320, 260
APART = 0.065  # of the height of a chart: the least distance of two labels at the ends of lines


def loss_by_depth(board: Board, palette: Palette) -> str:
    """Mean log loss against depth, with 95 % bands; published values as hollow points. SVG.

    Errors that are only rounding are left out.
    """
    data = pl.DataFrame(
        [
            {
                "solver": row.solver,
                "x": depth,
                "mean": cell.mean,
                "low": cell.mean - (cell.half_width or 0) if cell.low is None else cell.low,
                "high": cell.mean + (cell.half_width or 0) if cell.high is None else cell.high,
                "published": cell.published,
            }
            for row in board.rows
            for depth, cell in sorted(row.cells.items())
            if not cell.exact and cell.mean is not None
        ],
        infer_schema_length=None,
    )
    x = alt.X("x:O", title="layers or steps", axis=alt.Axis(labelAngle=0))
    base = alt.Chart(data).encode(x=x, color=colour(palette))
    y = alt.Y("mean:Q", title="log mean squared error", scale=alt.Scale(zero=False))
    bands = base.mark_area(opacity=0.18).encode(y=alt.Y("low:Q", title="log mean squared error"), y2="high:Q")
    lines = base.mark_line(strokeWidth=2).encode(y=y, strokeDash=dash(palette))
    points = base.mark_point(filled=True, size=36, opacity=1).encode(y=y, shape=shape(palette))
    layers: list[Any] = [bands, lines, points]
    if data["published"].is_not_null().any():
        paper = alt.Chart(data.filter(pl.col("published").is_not_null()))
        layers.append(
            paper.mark_point(filled=False, size=110, strokeWidth=1.5).encode(
                x="x:O", y="published:Q", color=colour(palette), shape=shape(palette)
            )
        )
    return svg(alt.layer(*layers, labels(data, palette, x)))


FLOOR = 1e-4  # excesses below this are drawn here


def over_bound(board: Board, palette: Palette) -> str | None:
    """The excess of each method's error over the bound of its kind, as a part of the bound's, on a log axis. SVG."""
    rows = [
        {"solver": row.solver, "x": depth} | {"mean": max(math.expm1(over.mean), FLOOR)}
        for row in board.rows
        for depth, cell in sorted(row.cells.items())
        if (over := cell.over) and over.mean is not None and over.mean < 50 and not cell.exact
    ]
    if not rows:
        return None
    data = pl.DataFrame(rows)
    x = alt.X("x:O", title="layers or steps", axis=alt.Axis(labelAngle=0))
    scale = alt.Scale(type="log", domainMin=FLOOR)
    y = alt.Y("mean:Q", title="excess over the bound, relative", scale=scale, axis=alt.Axis(format="~g", tickCount=5))
    base = alt.Chart(data).encode(x=x, color=colour(palette))
    lines = base.mark_line(strokeWidth=2).encode(y=y, strokeDash=dash(palette))
    points = base.mark_point(filled=True, size=36, opacity=1).encode(y=y, shape=shape(palette))
    ends = data.with_columns(pl.col("mean").log())
    return svg(alt.layer(lines, points, labels(ends, palette, x, logarithmic=True)))


def labels(data: pl.DataFrame, palette: Palette, x: Any, logarithmic: bool = False) -> Any:
    """Short names at the ends of lines, apart from each other. data: solver, x, mean, a log where the axis is
    logarithmic; x: the encoding of x.
    """
    ends = data.sort("x").group_by("solver", maintain_order=True).last().sort("mean", "solver")
    means = data["mean"].to_numpy()
    height = float(means.max() - means.min()) or 1.0
    places: list[float] = []
    for mean in ends["mean"]:
        places.append(max(mean, places[-1] + APART * height) if places else mean)
    over = places[-1] - float(means.max()) if places else 0.0
    for i in range(len(places) - 1, -1, -1):  # back down, where they stand above the highest line
        limit = places[i] - over if i == len(places) - 1 else places[i + 1] - APART * height
        places[i] = min(places[i], limit)
    named = ends.select("solver").with_columns(
        pl.Series("x", [data["x"].max()] * len(ends)),
        pl.Series("label_y", [math.exp(y) for y in places] if logarithmic else places),
        pl.Series("text", [short(one) for one in ends["solver"]]),
    )
    return (
        alt.Chart(named)
        .mark_text(align="left", dx=8, fontSize=11)
        .encode(x=x, y="label_y:Q", text="text:N", color=colour(palette))
    )


def polynomials(portraits: list[Portrait], palette: Palette) -> str:
    """Residual polynomials against the eigenvalues of their matrix; bounds dashed. SVG."""
    x = np.linspace(0, REACH, 101)
    data = pl.DataFrame(
        [
            {"solver": portrait.solver, "x": eigenvalue, "p": p}
            for portrait in portraits
            for eigenvalue, p in zip(x.tolist(), portrait.values(x).tolist(), strict=True)
        ]
    )
    lines = (
        alt.Chart(data)
        .mark_line(strokeWidth=2, clip=True)
        .encode(
            x=alt.X("x:Q", title="eigenvalue"),
            y=alt.Y("p:Q", title="residual polynomial", scale=alt.Scale(domain=[-1, 1])),
            color=colour(palette),
            strokeDash=dash(palette),
        )
    )
    rule = alt.Chart(pl.DataFrame({"y": [0.0]})).mark_rule(color="#999999").encode(y="y:Q")
    return svg(alt.layer(rule, lines))


def training(curves: pl.DataFrame, palette: Palette) -> str:
    """Training loss against step, the geometric mean over seeds. `curves`: solver, step, loss. SVG."""
    chart = (
        alt.Chart(curves)
        .mark_line(strokeWidth=1.5)
        .encode(
            x=alt.X("step:Q", title="training step"),
            y=alt.Y("loss:Q", title="log training loss", scale=alt.Scale(zero=False)),
            color=colour(palette),
            strokeDash=dash(palette),
        )
    )
    return svg(chart)


def calibration(packs: pl.DataFrame) -> str:
    """Seconds of every pack against what was predicted, both on logarithmic axes; on the line they are equal. SVG.

    packs: predicted_seconds, pack_seconds, protocol.
    """
    axis: dict[str, Any] = {"scale": alt.Scale(type="log", nice=False)}
    ends = [min(packs["predicted_seconds"].min(), packs["pack_seconds"].min())]  # type: ignore[type-var]
    ends.append(max(packs["predicted_seconds"].max(), packs["pack_seconds"].max()))  # type: ignore[type-var]
    line = alt.Chart(pl.DataFrame({"x": ends, "y": ends})).mark_line(color="#999999", strokeDash=[4, 4])
    points = (
        alt.Chart(packs)
        .mark_point(size=40, strokeWidth=1.5, color=COLOURS[0])
        .encode(
            x=alt.X("predicted_seconds:Q", title="predicted seconds", **axis),
            y=alt.Y("pack_seconds:Q", title="actual seconds", **axis),
        )
    )
    return svg(alt.layer(line.encode(x=alt.X("x:Q", **axis), y=alt.Y("y:Q", **axis)), points))


def svg(chart: Any) -> str:
    """The chart as SVG."""
    styled = (
        chart.properties(
            width=WIDTH,
            height=HEIGHT,
            background="transparent",
            padding={"left": 5, "top": 5, "bottom": 5, "right": 24},
        )
        .configure_view(strokeOpacity=0)
        .configure_axis(labelFontSize=12, titleFontSize=12, titleFontWeight="normal", gridOpacity=0.4)
    )
    try:
        import vl_convert

        return str(vl_convert.vegalite_to_svg(json.dumps(styled.to_dict(validate=False))))
    except BaseException as error:  # a panic of Rust's is no Exception
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        log.warning("pictures are missing: %s: %s", type(error).__name__, error)
        words = html.escape(f"This picture is missing: {type(error).__name__}: {error}"[:90])
        return f'<svg viewBox="0 0 {WIDTH} 40"><text x="4" y="24" font-size="12">{words}</text></svg>'
