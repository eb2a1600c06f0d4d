"""Transfer: what was trained at one value of a sweep's axis, tested at the others."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import polars as pl

from .axis import ABSENT, named, value
from .board import at_their_depth
from .results import Tables, Wanted


@dataclass(frozen=True)
class Matrix:
    """Mean log errors over seeds, by (trained at, tested at), of a solver at its deepest depth."""

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
    at = {}
    for task, spec in jobs.select("task", "spec").unique("task").iter_rows():
        x = value(json.loads(spec), sweep.axis)
        if x != ABSENT:
            at[task] = x
    rows = (
        tables.results.filter(mine & (pl.col("family") == "learned") & pl.col("log_mse").is_not_null())
        .drop("blocks")
        .collect()
    )
    shifted = rows.filter(pl.col("task") != pl.col("test")).select("solver", "protocol", "depth").unique()
    rows = at_their_depth(rows).join(shifted, on=["solver", "protocol", "depth"], how="semi")
    found: dict[tuple[str, int], dict[tuple[Any, Any], float]] = {}
    means = rows.group_by("solver", "protocol", "depth", "task", "test").agg(pl.col("log_mse").mean())
    for solver, _, depth, task, test, mean in means.sort("protocol").iter_rows():
        if task in at and test in at:
            found.setdefault((solver, depth), {})[at[task], at[test]] = mean
    deepest = {solver: max(depth for one, depth in found if one == solver) for solver, _ in found}
    made = [Matrix(*key, named(sweep.axis), mine) for key, mine in sorted(found.items()) if deepest[key[0]] == key[1]]
    return [one for one in made if len(one.trained) > 1 and len(one.tested) > 1]
