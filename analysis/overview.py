"""Sweeps with a crossover, a line each: the values of the axis at which the first of two solvers beats the second."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

from lfombench.harness.store.manifest import Manifest

from .axis import Along, along
from .results import Tables
from .severity import Crossing, Duel, crossings, duels


@dataclass(frozen=True)
class Overview:
    """The comparison of a sweep's two crossover solvers, in one of its charts."""

    sweep: str
    axis: str
    chart: str
    names: Sequence[str]
    found: Sequence[Duel]
    crossings: Sequence[Crossing]
    trained: Sequence[Any]

    def at(self, verdict: str) -> list[Any]:
        """The values at which the first solver is better, even or worse."""
        return [duel.x for duel in self.found if duel.verdict == verdict]

    @property
    def words(self) -> str:
        """The comparison in words."""
        return in_words(self)

    @property
    def brackets(self) -> list[tuple[str, str]]:
        """Neighbouring tasks between which the two change order, by more than chance on one side at least."""
        return [
            (cross.low.tasks[0], cross.high.tasks[0])
            for cross in self.crossings
            if {cross.low.verdict, cross.high.verdict} != {"even"} and cross.low.tasks[0] != cross.high.tasks[0]
        ]

    @property
    def best(self) -> Duel:
        """The comparison in which the first solver gains most."""
        return min(self.found, key=lambda duel: duel.mean)

    def outside(self, x: Any) -> bool:
        """Whether a value lies beyond those that experts were trained at."""
        return bool(self.trained) and not self.trained[0] <= x <= self.trained[-1]


def overview(tables: Tables, sweep: Manifest, line: Along | None = None) -> list[Overview]:
    """An overview for each chart; none where the sweep names no crossover, or lacks one of the solvers so far."""
    line = along(tables, sweep) if line is None else line
    if not sweep.crossover or line is None:
        return []
    overviews = []
    for chart in line.charts:
        compared = duels(line, chart, *sweep.crossover)
        if compared:
            overviews.append(
                Overview(sweep.name, line.name, chart, sweep.crossover, compared, crossings(compared), line.trained)
            )
    return overviews


def in_words(comparison: Overview) -> str:
    """A comparison of two solvers along an axis in words.

    `three experts against best expert with a scale: better at 2, 4; worse at 0.5; even at 1; they cross at 0.8`
    """
    parts = [
        f"{verdict} at {', '.join(map(short, comparison.at(verdict)))}"
        for verdict in ("better", "worse", "even")
        if comparison.at(verdict)
    ]
    crossings = [f"{short(cross.at)}{'' if cross.sure else ' (within chance)'}" for cross in comparison.crossings]
    parts += [f"they cross at {', '.join(crossings)}"] if crossings else []
    chart = f", {comparison.chart}" if comparison.chart else ""
    return f"{comparison.names[0]} against {comparison.names[1]}{chart}: {'; '.join(parts)}"


def short(x: object) -> str:
    """A value of an axis."""
    return f"{x:.3g}" if isinstance(x, float) else str(x)


def as_json(tables: Tables, sweep: Manifest) -> dict[str, Any]:
    """Plain values, for scripts: every solver at every value of the axis, and how the two of a crossover compare."""
    line = along(tables, sweep)
    if line is None:
        return {}
    points = line.data.join(
        pl.DataFrame(
            [{name: getattr(point, name) for name in ("chart", "x", "solver", "label")} for point in line.points]
        ),
        on=["chart", "x", "solver"],
        how="left",
    )
    comparisons = [
        {
            "chart": over.chart,
            "names": list(over.names),
            "values": [asdict(duel) | {"verdict": duel.verdict} for duel in over.found],
            "crossings": [{"at": cross.at, "sure": cross.sure} for cross in over.crossings],
        }
        for over in overview(tables, sweep, line)
    ]
    return {"axis": line.name, "points": points.to_dicts(), "trained": list(line.trained), "duels": comparisons}
