"""The algorithm that was learned: residual polynomials and their roots, steps and memory by layer, conjugacy, and the
nearest classical method.

A method with fixed scalar coefficients has w* - w_k = p(M G) w*. Its polynomial describes it completely: two models
with the same p are the same method, whatever their layers hold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.polynomial import Polynomial

from lfombench.harness.store.manifest import Manifest

from .published import undrawn
from .results import Tables

CLASSICAL = ("gradient_descent", "heavy_ball", "nesterov", "chebyshev")
REACH = 2.5  # eigenvalues from 0 to this are compared and drawn


@dataclass(frozen=True)
class Portrait:
    """A method at its deepest depth; its numbers are from the first of its seeds."""

    solver: str
    competes: bool
    known: str  # the preconditioner M of the polynomial in M G
    depth: int
    polynomial: list[float]  # the coefficient of each power, the mean over seeds
    roots: list[complex]
    numbers: dict[str, list[float]]  # parameters by name
    conjugacy: list[float]  # mean |cos| in G's norm of a step and the one before, for steps 2 .. depth
    nearest: tuple[str, float] | None  # and its distance: root mean square of the difference

    def values(self, x: np.ndarray) -> np.ndarray:
        """The residual polynomial at x."""
        p: np.ndarray = Polynomial(self.polynomial)(x)
        return p


def portraits(tables: Tables, sweep: Manifest, task: str, protocol: str) -> list[Portrait]:
    """Portraits of the methods of a board that have a residual polynomial; those in G first."""
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
    wanted = pl.col("job").is_in(jobs["job"].implode())
    weights = tables.frame("weights", where=wanted)
    results = tables.frame("results", ["job", "step", "conjugacy"], wanted)
    depths = jobs.group_by("solver").agg(pl.col("depth").max())["depth"]
    if depths.is_empty():
        return []
    deepest = depths.min()
    unplaced: list[Portrait] = []
    for (solver,), group in jobs.filter(pl.col("depth") == deepest).group_by("solver", maintain_order=True):
        p = np.mean(group["polynomial"].to_list(), axis=0)
        first = group.row(0, named=True)
        known = "covariance" if "covariance" in " ".join([str(solver), *(first["floors"] or [])]) else "identity"
        competes = not str(solver).startswith("best_lfom")
        cosines = results.filter(pl.col("job").is_in(group["job"].to_list()) & (pl.col("step") > 1))
        means = cosines.group_by("step").agg(pl.col("conjugacy").mean()).sort("step")["conjugacy"].drop_nulls()
        unplaced.append(
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
    placed = [_placed(portrait, unplaced) for portrait in unplaced]
    return sorted(placed, key=lambda portrait: (portrait.known != "identity", portrait.competes, portrait.solver))


def _placed(portrait: Portrait, others: list[Portrait]) -> Portrait:
    """A portrait with the classical method that is nearest to it, other than itself."""
    x = np.linspace(0, REACH, 200)
    rivals = [
        (float(np.sqrt(np.mean((portrait.values(x) - other.values(x)) ** 2))), other.solver)
        for other in others
        if other is not portrait and other.known == portrait.known and other.solver.startswith(CLASSICAL)
    ]
    if not rivals or not portrait.competes:
        return portrait
    distance, name = min(rivals)
    return Portrait(**(vars(portrait) | {"nearest": (name, distance)}))


def _numbers(weights: pl.DataFrame, job: str) -> dict[str, list[float]]:
    """A job's parameters, flat, where they are few enough to read."""
    rows = weights.filter((pl.col("job") == job) & pl.col("values").list.len().is_between(1, 12)).sort("name")
    return dict(zip(rows["name"], rows["values"].to_list(), strict=True))
