"""Charts as Vega-Lite declarations, rendered as SVG without a browser."""

from __future__ import annotations

import html
import json
import logging
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import altair as alt
import numpy as np
import polars as pl

from .board import Board
from .learned import REACH, Portrait

log = logging.getLogger("lfombench")

WIDTH, HEIGHT = 400, 280
# Okabe and Ito's colours, which colour-blind readers can tell apart; without yellow, which is too faint on white
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#7F7F7F")
SHAPES = {"circle": "\N{BLACK CIRCLE}", "square": "\N{BLACK SQUARE}", "triangle-up": "\N{BLACK UP-POINTING TRIANGLE}"}


class Key(NamedTuple):
    """The colour and shape that a solver is drawn with."""

    colour: str
    shape: str

    @property
    def sign(self) -> str:
        """The shape as a character."""
        return SHAPES[self.shape]


Palette = Mapping[str, Key]


def palette(solvers: Iterable[tuple[str, str]]) -> Palette:
    """A key for each solver, the same in every chart of a report. Learned solvers come first: training curves have no
    shapes.

    solvers: pairs of name and family.
    """
    ordered = sorted(set(solvers), key=lambda pair: (pair[1] != "learned", pair))
    keys = [Key(colour, shape) for shape in SHAPES for colour in COLOURS]
    return {solver: keys[i % len(keys)] for i, (solver, _) in enumerate(ordered)}


def loss_by_depth(board: Board, palette: Palette) -> str:
    """Mean log loss against depth, with 95 % bands; bounds and controls dashed, published values as hollow points. SVG.

    Errors that are only rounding are left out.
    """
    data = pl.DataFrame(
        [
            {
                "solver": row.solver,
                "bound": not row.competes,
                "depth": depth,
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
    base = alt.Chart(data).encode(
        x=alt.X("depth:O", title="layers or steps", axis=alt.Axis(labelAngle=0)), color=colour(palette)
    )
    y = alt.Y("mean:Q", title="log mean squared error", scale=alt.Scale(zero=False))
    bands = base.mark_area(opacity=0.18).encode(y=alt.Y("low:Q", title="log mean squared error"), y2="high:Q")
    dash = alt.StrokeDash("bound:N", scale=alt.Scale(domain=[False, True], range=[[1, 0], [6, 4]]), legend=None)
    lines = base.mark_line(strokeWidth=2).encode(y=y, strokeDash=dash)
    points = base.mark_point(filled=True, size=36, opacity=1).encode(y=y, shape=shape(palette))
    layers: list[Any] = [bands, lines, points]
    if data["published"].is_not_null().any():
        paper = alt.Chart(data.filter(pl.col("published").is_not_null()))
        layers.append(
            paper.mark_point(filled=False, size=110, strokeWidth=1.5).encode(
                x="depth:O", y="published:Q", color=colour(palette), shape=shape(palette)
            )
        )
    return svg(alt.layer(*layers))


def polynomials(portraits: list[Portrait], palette: Palette) -> str:
    """Residual polynomials against the eigenvalues of their matrix; bounds dashed. SVG."""
    x = np.linspace(0, REACH, 101)
    data = pl.DataFrame(
        [
            {"solver": portrait.solver, "bound": not portrait.competes, "x": eigenvalue, "p": p}
            for portrait in portraits
            for eigenvalue, p in zip(x.tolist(), portrait.values(x).tolist(), strict=True)
        ]
    )
    dash = alt.StrokeDash("bound:N", scale=alt.Scale(domain=[False, True], range=[[1, 0], [6, 4]]), legend=None)
    lines = (
        alt.Chart(data)
        .mark_line(strokeWidth=2, clip=True)
        .encode(
            x=alt.X("x:Q", title="eigenvalue"),
            y=alt.Y("p:Q", title="residual polynomial", scale=alt.Scale(domain=[-1, 1])),
            color=colour(palette),
            strokeDash=dash,
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


def colour(palette: Palette) -> Any:
    """The encoding of solvers as colours."""
    scale = alt.Scale(domain=list(palette), range=[key.colour for key in palette.values()])
    return alt.Color("solver:N", scale=scale, legend=None)


def shape(palette: Palette) -> Any:
    """The encoding of solvers as shapes."""
    scale = alt.Scale(domain=list(palette), range=[key.shape for key in palette.values()])
    return alt.Shape("solver:N", scale=scale, legend=None)


def svg(chart: Any) -> str:
    """The chart as SVG."""
    styled = (
        chart.properties(width=WIDTH, height=HEIGHT, background="transparent")
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
