"""Transfer: what was trained at one value of a sweep's axis, tested at the others."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import polars as pl

from .axis import ABSENT, named, titled, value
from .board import at_their_depth
from .results import Tables, Wanted


@dataclass(frozen=True)
class Matrix:
    """Mean log errors over seeds, by (trained at, tested at), of a solver at its deepest depth.

    solver: its label, with the other fields that charts are split by, and the protocol where it has several.
    """

    solver: str
    depth: int
    name: str  # of the axis
    means: dict[tuple[Any, Any], float]

    @property
    def trained(self) -> list[Any]:
        """Values that it was trained at."""
        return sorted({train for train, _ in self.means})

    @property
    def tested(self) -> list[Any]:
        """Values that it was tested at."""
        return sorted({test for _, test in self.means})

    def regret(self, train: Any, test: Any) -> float | None:
        """How much is lost against training where it is tested, where that was done."""
        here, there = self.means.get((train, test)), self.means.get((test, test))
        return None if here is None or there is None else here - there


def matrices(tables: Tables, sweep: Wanted) -> list[Matrix]:
    """Of every learned solver that was trained at several values of the axis and tested at several."""
    if sweep.axis is None or not sweep.axis.startswith("task."):
        return []
    mine = pl.col("job").is_in(sweep.jobs)
    jobs = tables.jobs.filter(mine & pl.col("spec").is_not_null()).select("job", "task", "spec").collect()
    at: dict[str, tuple[Any, str]] = {}  # of a task its value, and the other fields that charts are split by
    split = [field for field in sweep.split if field.startswith("task.")]
    for task, spec in jobs.select("task", "spec").unique("task").iter_rows():
        told = json.loads(spec)
        x, *others = (value(told, field) for field in (sweep.axis, *split))
        if x != ABSENT:
            at[task] = x, titled(split, tuple(others))
    rows = (
        tables.results.filter(mine & (pl.col("family") == "learned") & pl.col("log_mse").is_not_null())
        .drop("blocks")
        .collect()
    )
    shifted = rows.filter(pl.col("task") != pl.col("test")).select("solver", "protocol", "depth").unique()
    rows = at_their_depth(rows).join(shifted, on=["solver", "protocol", "depth"], how="semi")
    found: dict[tuple[str, str, str], dict[int, dict[tuple[Any, Any], float]]] = {}
    means = rows.group_by("solver", "protocol", "depth", "task", "test").agg(pl.col("log_mse").mean())
    for solver, protocol, depth, task, test, mean in means.iter_rows():
        if task in at and test in at and at[task][1] == at[test][1]:
            by_depth = found.setdefault((solver, at[task][1], protocol), {})
            by_depth.setdefault(depth, {})[at[task][0], at[test][0]] = mean
    several = {key[:2] for key in found if len({protocol for *same, protocol in found if tuple(same) == key[:2]}) > 1}
    made = []
    for (solver, fields, protocol), by_depth in sorted(found.items()):
        words = [solver, fields, protocol if (solver, fields) in several else ""]
        deepest = max(by_depth)
        made.append(Matrix(", ".join(filter(None, words)), deepest, named(sweep.axis), by_depth[deepest]))
    return [one for one in made if len(one.trained) > 1 and len(one.tested) > 1]
