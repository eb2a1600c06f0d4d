"""The paper's numbers beside ours: as published, over redraws of its prompts; rigorous; and the bound."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

import polars as pl

from .board import at_their_depth, without_draws
from .published import PUBLISHED, REDRAWS, TOLERANCE, Ours, Published, Quirk, drawn
from .results import Tables, Wanted


@dataclass(frozen=True)
class Redrawn:
    """A loss over redraws of the prompts: each the mean over seeds."""

    mean: float
    low: float
    high: float
    redraws: int

    def holds(self, value: float) -> bool:
        """Whether a value that was read off a figure lies within."""
        return self.low - TOLERANCE <= value <= self.high + TOLERANCE


@dataclass(frozen=True)
class Compared:
    """One published number."""

    row: Published
    depth: int
    value: float
    ours: Redrawn | None
    rigorous: float | None
    bound: tuple[str, float] | None
    quirk: Quirk | None
    toggled: Redrawn | None
    controls: tuple[float | None, float | None] | None = None  # as published, and rigorously

    @property
    def verdict(self) -> str:
        """inside, explained, outside; or missing; or undecided, where a single redraw spans no range."""
        if self.ours is None:
            return "missing"
        if self.ours.holds(self.value):
            return "inside"
        if self.toggled and self.toggled.holds(self.value):
            return "explained"
        return "outside" if self.ours.redraws > 1 else "undecided"


def compare(tables: Tables, wanted: list[Wanted]) -> list[Compared]:
    """Every published number that these sweeps have something to say of."""
    ids = list({job for sweep in wanted for job in sweep.jobs})
    frame = (
        tables.results.filter(
            pl.col("job").is_in(ids) & (pl.col("task") == pl.col("test")) & pl.col("log_mse").is_not_null()
        )
        .select("task", "test", "protocol", "solver", "family", "params", "depth", "step", "seed", "log_mse")
        .collect()
    )
    rows = without_draws(at_their_depth(frame))
    means = rows.group_by("task", "solver", "step", "undrawn", "protocol").agg(pl.col("log_mse").mean())
    losses: dict[tuple[str, str, int, str], dict[int | None, float]] = {}
    for task, solver, step, name, protocol, loss in means.sort("protocol").iter_rows():
        losses.setdefault((task, solver, step, name), {})[drawn(protocol)] = loss
    jobs = tables.jobs.filter(pl.col("job").is_in(ids) & (pl.col("protocol") == "rigorous"))
    known = jobs.select("task", "solver", "floors").unique(["task", "solver"]).collect()
    floors = {(task, solver): found or [] for task, solver, found in known.iter_rows()}

    names = {name: labels for sweep in wanted for name, labels in sweep.named.items()}

    def redrawn(task: str, solver: str, depth: int, protocol: str, every: bool = False) -> Redrawn | None:
        made = []
        for label in names.get(solver, [solver]):
            by_draw = losses.get((task, label, depth, protocol), {})
            found = [loss for seed, loss in by_draw.items() if every or seed in REDRAWS] or list(by_draw.values())
            made += [Redrawn(fmean(found), min(found), max(found), len(found))] if found else []
        return min(made, key=lambda one: one.mean, default=None)

    def mean(task: str, depth: int, ours: Ours) -> float | None:
        found = redrawn(task, ours.solver, depth, ours.protocol)
        return found.mean if found else None

    def bound(row: Published, depth: int) -> tuple[str, float] | None:
        mine = [f for f in floors.get((row.task, row.solver), []) if f.startswith("best_")]
        reference = ["best_lfom(preconditioner=covariance)"] if "preconditioner=full" in row.solver else []
        for name in (*mine, *reference):
            found = redrawn(row.task, name, depth, "rigorous")
            if found:
                return name, found.mean
        return None

    made: list[Compared] = []
    for row in PUBLISHED:
        found = []
        for depth, value in enumerate(row.values, start=1):
            quirk = next((quirk for quirk in row.quirks if depth in quirk.depths), None)
            one = Compared(
                row,
                depth,
                value,
                redrawn(row.task, row.solver, depth, row.protocol),
                mean(row.task, depth, row.rigorous or Ours(row.solver, "rigorous")),
                bound(row, depth),
                quirk,
                redrawn(row.task, quirk.solver, depth, quirk.protocol, quirk.every_draw) if quirk else None,
                (mean(row.task, depth, row.controls[0]), mean(row.task, depth, row.controls[1]))
                if row.controls
                else None,
            )
            if one.ours or one.rigorous is not None:
                found.append(one)
        if any(one.ours for one in found):
            made += found
    return made
