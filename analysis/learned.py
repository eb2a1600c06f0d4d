"""Which algorithm was learned: residual polynomials and their roots, steps and memory by layer, conjugacy, and the
classical method that is nearest.

A method with fixed scalar coefficients has w* - w_k = p(M G) w*. Its polynomial says everything of it: two models with
the same p are the same method, whatever their layers hold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.polynomial import Polynomial

from .published import undrawn
from .results import Tables, Wanted

CLASSICAL = ("gradient_descent", "heavy_ball", "nesterov", "chebyshev")
REACH = 2.5  # eigenvalues from 0 to here are compared and drawn


@dataclass(frozen=True)
class Portrait:
    """A method at its deepest depth, from the first of its seeds."""

    solver: str
    competes: bool
    known: str  # the preconditioner in whose polynomial it is
    depth: int
    polynomial: list[float]  # of each power, the mean over seeds
    roots: list[complex]
    numbers: dict[str, list[float]]  # parameters by name
    conjugacy: list[float]  # of steps 2 .. depth
    nearest: tuple[str, float] | None  # and how far: root mean square of the difference

    def values(self, x: np.ndarray) -> np.ndarray:
        """p(x)."""
        found: np.ndarray = Polynomial(self.polynomial)(x)
        return found


def portraits(tables: Tables, sweep: Wanted, task: str, protocol: str) -> list[Portrait]:
    """Of every method of a board that has a residual polynomial; those in G first."""
    jobs = (
        tables.jobs.filter(
            pl.col("job").is_in(sweep.jobs) & (pl.col("task") == task) & pl.col("polynomial").is_not_null()
        )
        .filter(pl.col("status") == "done")
        .select("job", "solver", "depth", "protocol", "seed", "polynomial", "floors")
        .sort("solver", "depth", "seed")
        .collect()
    )
    jobs = jobs.filter(pl.col("protocol").map_elements(undrawn, return_dtype=pl.String) == protocol)
    weights = tables.weights.filter(pl.col("job").is_in(jobs["job"].to_list())).collect()
    results = tables.results.filter(pl.col("job").is_in(jobs["job"].to_list())).drop("blocks").collect()
    depths = jobs.group_by("solver").agg(pl.col("depth").max())["depth"]
    if depths.is_empty():
        return []
    deepest = depths.min()
    made: list[Portrait] = []
    for (solver,), mine in jobs.filter(pl.col("depth") == deepest).group_by("solver", maintain_order=True):
        p = np.mean(mine["polynomial"].to_list(), axis=0)
        first = mine.row(0, named=True)
        known = "covariance" if "covariance" in " ".join([str(solver), *(first["floors"] or [])]) else "identity"
        competes = not str(solver).startswith("best_lfom")
        cosines = results.filter(pl.col("job").is_in(mine["job"].to_list()) & (pl.col("step") > 1))
        means = cosines.group_by("step").agg(pl.col("conjugacy").mean()).sort("step")["conjugacy"].drop_nulls()
        made.append(
            Portrait(
                str(solver),
                competes,
                known,
                first["depth"],
                p.tolist(),
                sorted(Polynomial(p).roots(), key=abs),
                _numbers(weights, first["job"]) if competes else {},
                means.to_list(),
                None,
            )
        )
    placed = [_placed(one, made) for one in made]
    return sorted(placed, key=lambda one: (one.known != "identity", one.competes, one.solver))


def _placed(one: Portrait, others: list[Portrait]) -> Portrait:
    """With the classical method that is nearest, another than itself."""
    x = np.linspace(0, REACH, 200)
    rivals = [
        (float(np.sqrt(np.mean((one.values(x) - other.values(x)) ** 2))), other.solver)
        for other in others
        if other is not one and other.known == one.known and other.solver.startswith(CLASSICAL)
    ]
    if not rivals or not one.competes:
        return one
    distance, name = min(rivals)
    return Portrait(**(vars(one) | {"nearest": (name, distance)}))


def _numbers(weights: pl.DataFrame, job: str) -> dict[str, list[float]]:
    """A job's parameters, flat, where they are few enough to read."""
    mine = weights.filter((pl.col("job") == job) & pl.col("values").list.len().is_between(1, 12)).sort("name")
    return dict(zip(mine["name"], mine["values"].to_list(), strict=True))
