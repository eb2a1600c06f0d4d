"""Losses of a few solvers at one depth as an array, by seed or by draw of the prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from .losses import EXACT, Losses
from .results import Tables


@dataclass(frozen=True)
class Cell:
    """A solver at one depth, whatever number of times its prompts were drawn: a `Losses` for each draw."""

    draws: Sequence[Losses]

    @property
    def solver(self) -> str:
        """The label of the solver."""
        return self.draws[0].solver

    @property
    def depth(self) -> int:
        """Its number of layers or steps."""
        return self.draws[0].depth

    @property
    def family(self) -> str:
        """The family of the solver."""
        return self.draws[0].family

    @property
    def values(self) -> Float[np.ndarray, " outcomes"]:
        """All log errors: inf where one was lost, nan where there is none yet."""
        return np.concatenate([draw.values for draw in self.draws])

    def by_unit(self, redrawn: bool) -> dict[int | str, float]:
        """Log errors by seed, or of redrawn prompts by draw, the mean over seeds; none that are still to come. Errors
        that are only rounding count as EXACT.
        """
        if not redrawn:
            [one] = self.draws
            there = ~np.isnan(one.values)
            return dict(zip(one.seeds[there].tolist(), np.maximum(one.values[there], EXACT).tolist(), strict=True))
        means = {draw.protocol: draw.values[~np.isnan(draw.values)] for draw in self.draws}
        return {draw: float(np.maximum(each, EXACT).mean()) for draw, each in means.items() if len(each)}


def cells(losses: Sequence[Losses]) -> list[Cell]:
    """The cells of a board, sorted by solver and depth."""
    found: dict[tuple[str, int], list[Losses]] = {}
    for one in losses:
        found.setdefault((one.solver, one.depth), []).append(one)
    return [Cell(found[key]) for key in sorted(found)]


def redrawn(losses: Sequence[Losses]) -> bool:
    """Whether the prompts of these losses were drawn more than once, so that draws and not seeds are what repeats."""
    return len({one.protocol for one in losses}) > 1


def by_unit(rows: Sequence[Cell], draws: bool) -> Float[np.ndarray, "k units"]:
    """Log errors of solvers, one row each: inf where one was lost, nan where there is none yet."""
    if not draws and len({one.draws[0].seeds.tobytes() for one in rows}) == 1:
        values = np.stack([one.draws[0].values for one in rows])
        return np.where(np.isnan(values), np.nan, np.maximum(values, EXACT))
    each = [one.by_unit(draws) for one in rows]
    units = {
        unit: i for i, unit in enumerate(sorted({unit for one in each for unit in one}, key=str if draws else None))
    }
    found = np.full((len(rows), len(units)), np.nan)
    for row, one in zip(found, each, strict=True):
        row[[units[unit] for unit in one]] = list(one.values())
    return found


def zero(tables: Tables, losses: Sequence[Losses]) -> float | None:
    """The log error of predicting 0 on the test of these losses, which lost seeds count as at least; None where none is
    lost, or the store does not say.
    """
    if not any(np.isinf(one.values).any() for one in losses):
        return None
    return tables.zeros.get((losses[0].task, losses[0].test))
