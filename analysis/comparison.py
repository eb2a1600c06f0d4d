"""The paper's numbers beside ours: as published, over redraws of the prompts; measured rigorously; and the bound."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

import polars as pl

from lfombench.harness.store.manifest import Manifest

from .board import at_their_depth, without_draws
from .published import PUBLISHED, REDRAWS, TOLERANCE, Ours, Published, Quirk, drawn
from .results import Tables


@dataclass(frozen=True)
class Redrawn:
    """The mean, least and largest of a loss over redraws of the prompts; each redraw's loss is the mean over seeds."""

    mean: float
    low: float
    high: float
    redraws: int

    def holds(self, value: float) -> bool:
        """Whether a value that was read off a figure lies within the redraws, up to the reading's tolerance."""
        return self.low - TOLERANCE <= value <= self.high + TOLERANCE


@dataclass(frozen=True)
class Compared:
    """One published number, and ours to compare with it."""

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
        """inside, explained, outside; or missing; or undecided, where a single redraw is no range."""
        if self.ours is None:
            return "missing"
        if self.ours.holds(self.value):
            return "inside"
        if self.toggled and self.toggled.holds(self.value):
            return "explained"
        return "outside" if self.ours.redraws > 1 else "undecided"


def compare(tables: Tables, sweeps: list[Manifest]) -> list[Compared]:
    """Every published number that these sweeps have results for."""
    ids = list({job for sweep in sweeps for job in sweep.jobs})
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
    floors = {(task, solver): labels or [] for task, solver, labels in known.iter_rows()}

    names = {name: labels for sweep in sweeps for name, labels in sweep.named.items()}

    def redrawn(task: str, solver: str, depth: int, protocol: str, all_draws: bool = False) -> Redrawn | None:
        candidates = []
        for label in names.get(solver, [solver]):
            by_draw = losses.get((task, label, depth, protocol), {})
            redraws = [loss for seed, loss in by_draw.items() if all_draws or seed in REDRAWS] or list(by_draw.values())
            candidates += [Redrawn(fmean(redraws), min(redraws), max(redraws), len(redraws))] if redraws else []
        return min(candidates, key=lambda candidate: candidate.mean, default=None)

    def mean(task: str, depth: int, ours: Ours) -> float | None:
        loss = redrawn(task, ours.solver, depth, ours.protocol)
        return loss.mean if loss else None

    def bound(row: Published, depth: int) -> tuple[str, float] | None:
        own = [label for label in floors.get((row.task, row.solver), []) if label.startswith("best_")]
        reference = ["best_lfom(preconditioner=covariance)"] if "preconditioner=full" in row.solver else []
        for name in (*own, *reference):
            loss = redrawn(row.task, name, depth, "rigorous")
            if loss:
                return name, loss.mean
        return None

    result: list[Compared] = []
    for row in PUBLISHED:
        of_row = []
        for depth, value in enumerate(row.values, start=1):
            quirk = next((quirk for quirk in row.quirks if depth in quirk.depths), None)
            compared = Compared(
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
            if compared.ours or compared.rigorous is not None:
                of_row.append(compared)
        if any(compared.ours for compared in of_row):
            result += of_row
    return result
