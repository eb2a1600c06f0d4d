"""Steps to a target over many problems, and layers counted in steps of conjugate gradients.

A problem is a task and a seed. A solver's steps to a target are the least depth at which its error is at most so much
of that of predicting 0; infinite where none is, or where the seed was lost. Their distribution over problems is the
ECDF; of their ratios to the fewest steps that any solver needs it is the performance profile of Dolan & More (2002).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from .board import Board
from .losses import EXACT, Outcomes

TARGET = 0.01  # of the error of predicting 0
YARDSTICK = "conjugate_gradient"


@dataclass(frozen=True)
class Profile:
    """Steps to a target: a row per solver, a column per problem."""

    protocol: str
    target: float
    solvers: Sequence[str]
    steps: Float[np.ndarray, "solvers problems"]

    def ecdf(self, solver: str) -> list[tuple[float, float]]:
        """The share of problems solved within so many steps: where it rises, and to what."""
        return _rises(self.steps[self.solvers.index(solver)])

    def ratios(self, solver: str) -> list[tuple[float, float]]:
        """The share of problems solved within so many times the fewest steps of any solver: where it rises."""
        best = self.steps.min(0)
        solved = np.isfinite(best)  # problems that nobody solves tell nobody apart, but count as unsolved
        ratio = np.full(self.steps.shape[1], np.inf)
        ratio[solved] = self.steps[self.solvers.index(solver)][solved] / best[solved]
        return _rises(ratio)


def _rises(values: Float[np.ndarray, " problems"]) -> list[tuple[float, float]]:
    finite = np.sort(values[np.isfinite(values)])
    places, counts = np.unique(finite, return_counts=True)
    return [(float(x), float(y)) for x, y in zip(places, counts.cumsum() / len(values), strict=True)]


def profiles(found: Outcomes, zeros: Mapping[tuple[str, str], float], target: float = TARGET) -> list[Profile]:
    """A profile for each protocol, of the methods that have outcomes on every task that any has."""
    groups: dict[str, dict[str, dict[tuple[str, str, int], dict[int, float]]]] = {}
    for one in found.losses:
        zero = zeros.get((one.task, one.test))
        if one.family not in ("classical", "learned") or zero is None:
            continue
        problems = groups.setdefault(one.undrawn, {}).setdefault(one.solver, {})
        for seed, value in zip(one.seeds.tolist(), one.values.tolist(), strict=True):
            if not np.isnan(value):
                problems.setdefault((one.task, one.test, seed), {})[one.depth] = max(value, EXACT) - zero
    made = []
    for protocol, solvers in groups.items():
        every = {problem for problems in solvers.values() for problem in problems}
        names = sorted(name for name, problems in solvers.items() if set(problems) == every)
        if len(names) > 1:
            order = sorted(every)
            steps = [[_first(solvers[name][problem], target) for problem in order] for name in names]
            made.append(Profile(protocol, target, names, np.array(steps)))
    return made


def _first(losses: Mapping[int, float], target: float) -> float:
    return min((float(depth) for depth, loss in losses.items() if loss <= np.log(target)), default=np.inf)


def in_yardsticks(board: Board, zero: float | None) -> dict[str, dict[int, float]]:
    """Of each method's depths, the number of conjugate-gradient steps with the same mean loss, by interpolation between
    whole steps; none where it is better than all that the board has of them, or the board has none.
    """
    yard = next((row for row in board.rows if row.solver == YARDSTICK), None)
    if yard is None or zero is None:
        return {}
    curve = [(0, zero), *((k, cell.mean) for k, cell in sorted(yard.cells.items()) if cell.mean is not None)]
    steps, losses = (np.array(values, dtype=float) for values in zip(*curve, strict=True))
    found: dict[str, dict[int, float]] = {}
    for row in board.rows:
        for depth, cell in sorted(row.cells.items()):
            if row.competes and cell.mean is not None and losses.min() <= cell.mean <= losses.max():
                found.setdefault(row.solver, {})[depth] = float(np.interp(-cell.mean, -losses, steps))
    return found
