"""Transfer: solvers that were trained at one value of a sweep's axis, tested at the others."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from lfombench.harness.store.manifest import Manifest

from .axis import ABSENT, named, titled, value
from .losses import with_transfers
from .results import Tables


@dataclass(frozen=True)
class Matrix:
    """Mean log errors over seeds, by (trained at, tested at), of a solver at its deepest depth.

    solver: its label, with the other fields that charts are split by, and the protocol where there are several.
    """

    solver: str
    depth: int
    name: str  # of the axis
    means: dict[tuple[Any, Any], float]

    @property
    def trained(self) -> list[Any]:
        """The values that the solver was trained at."""
        return sorted({train for train, _ in self.means})

    @property
    def tested(self) -> list[Any]:
        """The values that the solver was tested at."""
        return sorted({test for _, test in self.means})

    def regret(self, train: Any, test: Any) -> float | None:
        """The loss in log error against a solver trained at `test`; None where one of the two is missing."""
        transferred, trained_there = self.means.get((train, test)), self.means.get((test, test))
        return None if transferred is None or trained_there is None else transferred - trained_there


def matrices(tables: Tables, sweep: Manifest) -> list[Matrix]:
    """A matrix for every learned solver that was trained at several values of the axis and tested at several."""
    if sweep.axis is None or not sweep.axis.startswith("task."):
        return []
    of_sweep = pl.col("job").is_in(sweep.jobs)
    jobs = tables.jobs.filter(of_sweep & pl.col("spec").is_not_null()).select("job", "task", "spec").collect()
    by_task: dict[str, tuple[Any, str]] = {}  # a task's value, and the title of its chart
    split = [field for field in sweep.split if field.startswith("task.")]
    for task, spec in jobs.select("task", "spec").unique("task").iter_rows():
        fields_of_task = json.loads(spec)
        x, *split_values = (value(fields_of_task, field) for field in (sweep.axis, *split))
        if x != ABSENT:
            by_task[task] = x, titled(split, tuple(split_values))
    losses = [one for one in with_transfers(tables, sweep) if one.family == "learned"]
    shifted = {(one.solver, one.protocol, one.depth) for one in losses if one.task != one.test}
    by_solver: dict[tuple[str, str, str], dict[int, dict[tuple[Any, Any], float]]] = {}
    for one in losses:
        values = one.values[np.isfinite(one.values)]
        known = one.task in by_task and one.test in by_task and by_task[one.task][1] == by_task[one.test][1]
        if known and len(values) and (one.solver, one.protocol, one.depth) in shifted:
            by_depth = by_solver.setdefault((one.solver, by_task[one.task][1], one.protocol), {})
            place = by_task[one.task][0], by_task[one.test][0]
            by_depth.setdefault(one.depth, {})[place] = float(values.mean())
    several = {
        key[:2] for key in by_solver if len({protocol for *same, protocol in by_solver if tuple(same) == key[:2]}) > 1
    }
    all_matrices = []
    for (solver, fields, protocol), by_depth in sorted(by_solver.items()):
        parts = [solver, fields, protocol if (solver, fields) in several else ""]
        deepest = max(by_depth)
        all_matrices.append(Matrix(", ".join(filter(None, parts)), deepest, named(sweep.axis), by_depth[deepest]))
    return [matrix for matrix in all_matrices if len(matrix.trained) > 1 and len(matrix.tested) > 1]
