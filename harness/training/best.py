"""What training keeps on its way: of every job the best parameters of any validation round, and its curve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from ..compiler.step import Tensors
from .pack import Pack

Table = Sequence[Sequence[int]]  # trials jobs


def trial_table(pack: Pack) -> list[list[int]]:
    """The number of every trial of every job: trials jobs."""
    return [[k] * len(pack.jobs) for k in range(len(pack.first.trials))]


@dataclass
class Best:
    """The best so far of every job: its validation loss, trial, training steps until then and parameters; and the
    reason, where it diverged.
    """

    loss: list[float]
    trial: list[int]
    steps: list[int]
    reason: list[str | None]
    params: list[Tensors]

    @staticmethod
    def none_yet(jobs: int) -> Best:
        """Before the first validation round."""
        return Best([math.inf] * jobs, [0] * jobs, [0] * jobs, [None] * jobs, [{} for _ in range(jobs)])

    def update(
        self,
        live: Sequence[int],
        winners: Sequence[int],
        trials: Table,
        loss: Float[Tensor, "trials jobs"],
        params: Tensors,
        reasons: Sequence[str | None],
        steps: int,
    ) -> list[float]:
        """Take a validation round into account; by how much it bettered the log loss of each live job.

        live: positions of the jobs that still train. winners: the best trial of each, a row of `trials`. loss, params:
        of the live jobs. reasons: why a winner diverged. steps: training steps before this round.
        """
        gains, losses = [], loss.tolist()
        columns = torch.arange(len(live), device=loss.device)
        rows = torch.tensor(winners, dtype=torch.int64, device=loss.device)
        theirs = {name: p[rows, columns] for name, p in params.items()}  # of the winners, jobs ...
        for column, (job, row) in enumerate(zip(live, winners, strict=True)):
            now, before = losses[row][column], self.loss[job]
            is_first = not self.params[job]
            gains.append(_gain(before, now))
            if is_first or now < before:
                self.loss[job], self.trial[job], self.reason[job] = now, trials[row][column], reasons[column]
                self.params[job] = {name: p[column] for name, p in theirs.items()}
                self.steps[job] = steps
        return gains

    def stacked(self) -> Tensors:
        """Parameters of all jobs, `jobs ...`; empty before the first validation round, which all jobs take part in."""
        return {name: torch.stack([params[name] for params in self.params]) for name in self.params[0]}


def _gain(before: float, now: float) -> float:
    """By how much the log loss fell: -inf where it is not finite now, inf where it was not before."""
    if not math.isfinite(now):
        return -math.inf
    return math.inf if not math.isfinite(before) or now <= 0 else math.log(before) - math.log(now)


@dataclass
class Curve:
    """Training losses and gradient norms of every trial of every job, at some steps; NaN where it did not train."""

    trials: int
    jobs: int
    points: list[int] = field(default_factory=list)
    parts: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def add(self, points: list[int], first: int, records: Tensors, trials: Table, live: Sequence[int]) -> None:
        """Keep the records of some steps. points: which, counted from 1; first: the step of the first record."""
        indices = [t - 1 - first for t in points]
        rows, columns = torch.tensor(trials), torch.tensor(live)
        curves = []
        for name in ("loss", "norm"):
            curve = torch.full((len(indices), self.trials, self.jobs), math.nan, dtype=records[name].dtype)
            curve[:, rows, columns] = records[name][indices].cpu()
            curves.append(curve)
        self.points += points
        self.parts.append((curves[0], curves[1]))

    def of_trials(self, trials: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Losses and norms of one trial of each job: points jobs."""
        jobs = torch.arange(self.jobs)
        losses, norms = (x[:, torch.tensor(trials), jobs] for x in self.joined())
        return losses, norms

    def joined(self) -> tuple[Tensor, Tensor]:
        """Losses and norms of all trials: points trials jobs."""
        losses, norms = (torch.cat([part[i] for part in self.parts]) for i in (0, 1))
        return losses, norms
