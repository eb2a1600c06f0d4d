"""Sweeps with a crossover, each in a line: at which values of its axis the first of two solvers beats the second."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

from .axis import Along, along
from .results import Tables, Wanted
from .severity import Crossing, Duel, crossings, duels


@dataclass(frozen=True)
class Overview:
    """Of a sweep's chart."""

    sweep: str
    axis: str
    chart: str
    names: Sequence[str]
    found: Sequence[Duel]
    crossings: Sequence[Crossing]
    trained: Sequence[Any]

    def at(self, verdict: str) -> list[Any]:
        """Values at which the first is better, even or worse."""
        return [one.x for one in self.found if one.verdict == verdict]

    @property
    def brackets(self) -> list[tuple[str, str]]:
        """Neighbouring tasks between which the two change places, by more than chance on one side at least."""
        return [
            (cross.low.tasks[0], cross.high.tasks[0])
            for cross in self.crossings
            if {cross.low.verdict, cross.high.verdict} != {"even"} and cross.low.tasks[0] != cross.high.tasks[0]
        ]

    @property
    def best(self) -> Duel:
        """Where the first gains most."""
        return min(self.found, key=lambda one: one.mean)

    def outside(self, x: Any) -> bool:
        """Whether a value lies beyond those that experts were trained at."""
        return bool(self.trained) and not self.trained[0] <= x <= self.trained[-1]


def overview(tables: Tables, sweep: Wanted, line: Along | None = None) -> list[Overview]:
    """A line for each chart; none where the sweep names no crossover, or has not both solvers yet."""
    line = along(tables, sweep) if line is None else line
    if not sweep.crossover or line is None:
        return []
    made = []
    for chart in line.charts:
        found = duels(line, chart, *sweep.crossover)
        if found:
            made.append(Overview(sweep.name, line.name, chart, sweep.crossover, found, crossings(found), line.trained))
    return made


def as_json(tables: Tables, sweep: Wanted) -> dict[str, Any]:
    """Plain values, for scripts: every solver at every value of the axis, and how the two of a crossover compare."""
    line = along(tables, sweep)
    if line is None:
        return {}
    points = line.data.join(
        pl.DataFrame([{name: getattr(one, name) for name in ("chart", "x", "solver", "label")} for one in line.points]),
        on=["chart", "x", "solver"],
        how="left",
    )
    duels = [
        {
            "chart": one.chart,
            "names": list(one.names),
            "values": [asdict(duel) | {"verdict": duel.verdict} for duel in one.found],
            "crossings": [{"at": cross.at, "sure": cross.sure} for cross in one.crossings],
        }
        for one in overview(tables, sweep, line)
    ]
    return {"axis": line.name, "points": points.to_dicts(), "trained": list(line.trained), "duels": duels}
