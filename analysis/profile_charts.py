"""Pictures: shares of problems solved, layers counted in steps of conjugate gradients, loss against cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt
import polars as pl

from .charts import labels, svg
from .costs import Priced
from .palette import Palette, colour, dash, shape
from .profiles import Profile
from .titles import short


def solved(profile: Profile, palette: Palette, ratios: bool = False) -> str:
    """The share of problems solved within so many steps, or within so many times the fewest of any solver. SVG."""
    rows, last = [], 1.0
    for solver in profile.solvers:
        rises = profile.ratios(solver) if ratios else profile.ecdf(solver)
        rows += [{"solver": solver, "x": x, "mean": y} for x, y in [(1.0, 0.0), *rises]]
        last = max([last, *(x for x, _ in rises)])
    ends = pl.DataFrame(rows).sort("x", "mean").group_by("solver", maintain_order=True).last()
    data = pl.concat([pl.DataFrame(rows), ends.with_columns(x=pl.lit(last))])
    title = "steps, relative to the fewest" if ratios else "layers or steps"
    x = alt.X("x:Q", title=title, scale=alt.Scale(nice=False), axis=alt.Axis(tickMinStep=1))
    y = alt.Y("mean:Q", title="share of problems solved", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%"))
    base = alt.Chart(data).encode(x=x, y=y, color=colour(palette))
    lines = base.mark_line(strokeWidth=2, interpolate="step-after").encode(strokeDash=dash(palette))
    return svg(alt.layer(lines, labels(data, palette, x)))


def yardsticks(found: Mapping[str, Mapping[int, float]], palette: Palette) -> str | None:
    """Steps of conjugate gradients with the same loss, by depth. SVG."""
    rows = [
        {"solver": solver, "x": depth, "mean": steps}
        for solver, by_depth in found.items()
        for depth, steps in by_depth.items()
    ]
    if len(found) < 2:
        return None
    data = pl.DataFrame(rows)
    x = alt.X("x:O", title="layers or steps", axis=alt.Axis(labelAngle=0))
    y = alt.Y("mean:Q", title="steps of conjugate gradients")
    base = alt.Chart(data).encode(x=x, y=y, color=colour(palette))
    lines = base.mark_line(strokeWidth=2).encode(strokeDash=dash(palette))
    points = base.mark_point(filled=True, size=36, opacity=1).encode(shape=shape(palette))
    return svg(alt.layer(lines, points, labels(data, palette, x)))


def front(found: Sequence[Priced], title: str, palette: Palette) -> str:
    """Loss against cost, on a log axis, which holds 0 where a cost is; a ring around each method on the front. SVG."""
    data = pl.DataFrame(
        [{"solver": one.solver, "x": one.cost, "mean": one.mean, "text": short(one.solver)} for one in found]
    )
    ring = data.filter(pl.Series([one.front for one in found]))
    least = min((one.cost for one in found if one.cost > 0), default=1.0)
    kind = {"type": "log"} if all(one.cost > 0 for one in found) else {"type": "symlog", "constant": least / 4}
    x = alt.X(
        "x:Q", title=title, scale=alt.Scale(**kind, nice=False, padding=12), axis=alt.Axis(format="~s", tickCount=6)
    )
    y = alt.Y("mean:Q", title="log mean squared error", scale=alt.Scale(zero=False))
    base = alt.Chart(data).encode(x=x, y=y, color=colour(palette))
    points = base.mark_point(filled=True, size=50, opacity=1).encode(shape=shape(palette))
    rings = alt.Chart(ring).mark_point(size=170, strokeWidth=1.2, color="#7F7F7F", shape="circle").encode(x=x, y=y)
    names = base.mark_text(align="left", dx=9, fontSize=11).encode(text="text:N")
    return svg(alt.layer(rings, points, names))
