"""What training keeps on its way: of every job the best parameters at any look, and its curve."""

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
    """Every trial of every job: trials jobs."""
    return [[k] * len(pack.jobs) for k in range(len(pack.first.trials))]


@dataclass
class Kept:
    """The best look at each job: its validation loss, trial, parameters, steps until then; why, where it diverged."""

    loss: list[float]
    trial: list[int]
    until: list[int]
    reason: list[str | None]
    best: list[Tensors]

    @staticmethod
    def nothing(jobs: int) -> Kept:
        """Before the first look."""
        return Kept([math.inf] * jobs, [0] * jobs, [0] * jobs, [None] * jobs, [{} for _ in range(jobs)])

    def offer(
        self,
        going: Sequence[int],
        best: Sequence[int],
        tried: Table,
        loss: Float[Tensor, "trials jobs"],
        params: Tensors,
        reasons: Sequence[str | None],
        look: int,
    ) -> list[float]:
        """A look at the jobs that are going: the best trial of each. By how much it bettered the log loss."""
        gains = []
        for i, (j, k) in enumerate(zip(going, best, strict=True)):
            now, before = loss[k, i].item(), self.loss[j]
            first = not self.best[j]
            gains.append(_gain(before, now))
            if first or now < before:
                self.loss[j], self.trial[j], self.reason[j] = now, tried[k][i], reasons[i]
                self.best[j] = {name: p[k, i].clone() for name, p in params.items()}
                self.until[j] = look
        return gains

    def params(self) -> Tensors:
        """Of all jobs: jobs ...; nothing before the first look, which is at all of them."""
        return {name: torch.stack([one[name] for one in self.best]) for name in self.best[0]}


def _gain(before: float, now: float) -> float:
    """In the logarithm; none where both are lost, all where there was nothing before."""
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

    def add(self, points: list[int], first: int, records: Tensors, tried: Table, going: Sequence[int]) -> None:
        """Records of steps from `first` on, of which some are kept."""
        at = [t - 1 - first for t in points]
        rows, columns = torch.tensor(tried), torch.tensor(going)
        made = []
        for name in ("loss", "norm"):
            whole = torch.full((len(at), self.trials, self.jobs), math.nan, dtype=records[name].dtype)
            whole[:, rows, columns] = records[name][at].cpu()
            made.append(whole)
        self.points += points
        self.parts.append((made[0], made[1]))

    def of(self, trial: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Losses and norms of one trial of each job: points jobs."""
        jobs = torch.arange(self.jobs)
        losses, norms = (x[:, torch.tensor(trial), jobs] for x in self.whole())
        return losses, norms

    def whole(self) -> tuple[Tensor, Tensor]:
        """Losses and norms: points trials jobs."""
        losses, norms = (torch.cat([part[i] for part in self.parts]) for i in (0, 1))
        return losses, norms
