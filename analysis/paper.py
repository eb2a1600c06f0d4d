"""The paper's numbers beside ours: as published, over redraws of the prompts; measured rigorously; and the bound."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

import numpy as np
import polars as pl

from lfombench.harness.store.manifest import Manifest

from .losses import outcomes
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


def beside_paper(tables: Tables, sweeps: list[Manifest]) -> list[Compared]:
    """Every published number that these sweeps have results for."""
    stored, result = _Stored.of(tables, sweeps), list[Compared]()
    for row in PUBLISHED:
        of_row = [stored.compared(row, depth, value) for depth, value in enumerate(row.values, start=1)]
        if any(compared.ours for compared in of_row):
            result += [compared for compared in of_row if compared.ours or compared.rigorous is not None]
    return result


@dataclass(frozen=True)
class _Stored:
    """What a store has beside published numbers."""

    losses: dict[tuple[str, str, int, str], dict[int | None, float]]  # task, solver, depth, protocol; by data seed
    names: dict[str, list[str]]  # the labels that a name of a solver stands for
    floors: dict[tuple[str, str], list[str]]  # labels of the bounds of a solver on a task

    @staticmethod
    def of(tables: Tables, sweeps: list[Manifest]) -> _Stored:
        """What there is of these sweeps."""
        losses: dict[tuple[str, str, int, str], dict[int | None, float]] = {}
        for one in (one for sweep in sweeps for one in outcomes(tables, sweep).losses if one.task == one.test):
            values = one.values[np.isfinite(one.values)]
            if len(values):
                key = one.task, one.solver, one.depth, one.undrawn
                losses.setdefault(key, {})[drawn(one.protocol)] = float(values.mean())
        ids = list({job for sweep in sweeps for job in sweep.jobs})
        jobs = tables.jobs.filter(pl.col("job").is_in(ids) & (pl.col("protocol") == "rigorous"))
        known = jobs.select("task", "solver", "floors").unique(["task", "solver"]).collect()
        names = {name: labels for sweep in sweeps for name, labels in sweep.named.items()}
        return _Stored(losses, names, {(task, solver): labels or [] for task, solver, labels in known.iter_rows()})

    def compared(self, row: Published, depth: int, value: float) -> Compared:
        """A published number beside what the store has."""
        quirk = next((quirk for quirk in row.quirks if depth in quirk.depths), None)
        controls = row.controls and (
            self.mean(row.task, depth, row.controls[0]),
            self.mean(row.task, depth, row.controls[1]),
        )
        return Compared(
            row,
            depth,
            value,
            self.redrawn(row.task, row.solver, depth, row.protocol),
            self.mean(row.task, depth, row.rigorous or Ours(row.solver, "rigorous")),
            self.bound(row, depth),
            quirk,
            self.redrawn(row.task, quirk.solver, depth, quirk.protocol, quirk.every_draw) if quirk else None,
            controls,
        )

    def redrawn(self, task: str, solver: str, depth: int, protocol: str, all_draws: bool = False) -> Redrawn | None:
        """The losses of a solver over redraws of its prompts; of several labels of one name the best."""
        candidates = []
        for label in self.names.get(solver, [solver]):
            by_draw = self.losses.get((task, label, depth, protocol), {})
            redraws = [loss for seed, loss in by_draw.items() if all_draws or seed in REDRAWS] or list(by_draw.values())
            candidates += [Redrawn(fmean(redraws), min(redraws), max(redraws), len(redraws))] if redraws else []
        return min(candidates, key=lambda candidate: candidate.mean, default=None)

    def mean(self, task: str, depth: int, ours: Ours) -> float | None:
        """The mean loss of one of our own rows."""
        loss = self.redrawn(task, ours.solver, depth, ours.protocol)
        return loss.mean if loss else None

    def bound(self, row: Published, depth: int) -> tuple[str, float] | None:
        """The bound that a published row stands beside, and its loss."""
        own = [label for label in self.floors.get((row.task, row.solver), []) if label.startswith("best_")]
        reference = ["best_lfom(preconditioner=covariance)"] if "preconditioner=full" in row.solver else []
        for name in (*own, *reference):
            loss = self.redrawn(row.task, name, depth, "rigorous")
            if loss:
                return name, loss.mean
        return None
