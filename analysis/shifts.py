"""Charts along a sweep's axis: losses, differences of two solvers, and transfer from one value to another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import polars as pl

from .axis import Along
from .charts import labels, svg
from .losses import EXACT
from .palette import COLOURS, GREY, Palette, colour, dash, shape
from .severity import WIDE, Duel
from .transfer import Matrix

REGRET = 3.0  # a difference of log errors: it has the deepest colour of a heat map
SHORT = "isNumber(datum.value) ? format(datum.value, '.3~r') : datum.label"  # a value on an axis, as in the tables


def along(line: Along, chart: str, palette: Palette) -> str:
    """Mean log loss along a field of the sweep, with 95 % bands; dotted where experts were trained. SVG."""
    data = line.data.filter((pl.col("chart") == chart) & (pl.col("mean") > EXACT))
    base = alt.Chart(data).encode(x=_severity(line), color=colour(palette))
    y = alt.Y("mean:Q", title="log mean squared error", scale=alt.Scale(zero=False))
    bands = base.mark_area(opacity=0.18).encode(y=alt.Y("low:Q", title="log mean squared error"), y2="high:Q")
    lines = base.mark_line(strokeWidth=2).encode(y=y, strokeDash=dash(palette))
    points = base.mark_point(filled=True).encode(y=y, shape=shape(palette))
    return svg(alt.layer(*_training_marks(line), bands, lines, points, labels(data, palette, _severity(line))))


def duel(line: Along, duels: Sequence[Duel]) -> str:
    """Differences of two solvers' log errors along the axis with their 95 % intervals; dotted where experts were
    trained. SVG.
    """
    data = pl.DataFrame(
        [
            {
                "x": duel.x,
                "mean": duel.mean,
                "low": duel.mean - (duel.half_width or 0),
                "high": duel.mean + (duel.half_width or 0),
            }
            | {"verdict": duel.verdict}
            for duel in duels
        ],
        infer_schema_length=None,
    )
    verdicts = alt.Scale(domain=["better", "even", "worse"], range=[COLOURS[0], GREY, COLOURS[1]])
    base = alt.Chart(data).encode(x=_severity(line), color=alt.Color("verdict:N", scale=verdicts, legend=None))
    y = alt.Y("mean:Q", title="difference of log errors", scale=alt.Scale(zero=True))
    zero = alt.Chart(pl.DataFrame({"y": [0.0]})).mark_rule(color="#999999").encode(y="y:Q")
    whiskers = base.mark_rule(strokeWidth=2).encode(y=alt.Y("low:Q", title="difference of log errors"), y2="high:Q")
    return svg(
        alt.layer(*_training_marks(line), zero, whiskers, base.mark_point(filled=True, size=60, opacity=1).encode(y=y))
    )


def _severity(line: Along) -> Any:
    """The axis that a sweep varies: logarithmic where it is wide, categories where values are not numbers."""
    values = line.values
    if not all(isinstance(x, int | float) for x in values):
        return alt.X("x:N", title=line.name, sort=None)
    above = [x for x in values if x > 0]
    wide = values[0] >= 0 and len(above) > 1 and above[-1] > WIDE * above[0]
    if not wide:
        return alt.X("x:Q", title=line.name, scale=alt.Scale(zero=False), axis=alt.Axis())
    ticks = alt.Axis(values=values, grid=True, labelExpr=SHORT)
    scale = (
        alt.Scale(type="log", nice=False) if values[0] > 0 else alt.Scale(type="symlog", constant=above[0], nice=False)
    )
    return alt.X("x:Q", title=line.name, scale=scale, axis=ticks)


def _training_marks(line: Along) -> list[Any]:
    """Dotted lines at the values at which experts were trained."""
    if not line.trained:
        return []
    data = pl.DataFrame({"x": list(line.trained)})
    return [alt.Chart(data).mark_rule(color="#777777", strokeDash=[1, 3]).encode(x=_severity(line))]


def heat(matrix: Matrix) -> str:
    """Log errors by where a solver was trained and tested, coloured by what training at the tested value would gain."""
    data = pl.DataFrame(
        [
            {"train": train, "test": test, "mean": mean, "text": f"{mean:.2f}".replace("-", "\N{MINUS SIGN}")}
            | {"regret": min(matrix.regret(train, test) or 0.0, REGRET)}
            for (train, test), mean in matrix.means.items()
        ]
    )
    base = alt.Chart(data).encode(
        x=alt.X("test:O", title=f"tested at {matrix.name}", axis=alt.Axis(labelAngle=0, labelExpr=SHORT)),
        y=alt.Y("train:O", title=f"trained at {matrix.name}", sort="descending", axis=alt.Axis(labelExpr=SHORT)),
    )
    fill = alt.Color("regret:Q", scale=alt.Scale(domain=[0, REGRET], range=["#f7f7f7", COLOURS[1]]), legend=None)
    return svg(alt.layer(base.mark_rect().encode(color=fill), base.mark_text(fontSize=11).encode(text="text:N")))
