"""A pack in the middle of its training: all that is needed to go on, of all its jobs or of some.

Random streams need nothing here: they are functions of the step. At the same width going on gives the same bits as
never having stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

Tensors = dict[str, Tensor]
LISTS = ("jobs", "loss", "trial", "until", "reason", "budget")  # an entry per job
PER_JOB = {"state": 1, "best": 0, "curve": 2}  # the axis of jobs, or of those that still train


@dataclass(frozen=True)
class Checkpoint:
    """Where training is (`begin` the last look, `first` the next step), which jobs still train and with which trials
    (`going`, positions; `tried`, trials x going), their state; of every job its best look and its curve.
    """

    jobs: list[str]
    begin: int
    first: int
    going: list[int]
    tried: list[list[int]]
    loss: list[float]
    trial: list[int]
    until: list[int]
    reason: list[str | None]
    budget: list[int]
    points: list[int]
    engine: str | None  # how it runs
    tensors: Tensors  # state.x: trials going ...; best.x: jobs ...; curve.x: points trials jobs

    @property
    def point(self) -> tuple[int, int, int]:
        """Jobs at one point can go on as one pack: the look, the step, and how many trials are left."""
        return self.begin, self.first, len(self.tried)

    def select(self, ids: Sequence[str]) -> Checkpoint:
        """Of these jobs, in this order."""
        at = [self.jobs.index(job) for job in ids]
        going = [i for i, j in enumerate(at) if j in self.going]
        columns = [self.going.index(at[i]) for i in going]
        which = {"state": columns, "best": at, "curve": at}
        tensors = {}
        for name, x in self.tensors.items():
            kind = name.partition(".")[0]
            tensors[name] = x.index_select(PER_JOB[kind], torch.tensor(which[kind], dtype=torch.int64))
        lists: dict[str, Any] = {name: [getattr(self, name)[i] for i in at] for name in LISTS}
        tried = [[row[c] for c in columns] for row in self.tried]
        return replace(self, **lists, going=going, tried=tried, tensors=tensors)

    @staticmethod
    def join(parts: Sequence[Checkpoint]) -> Checkpoint:
        """Several at one point as one."""
        first, *others = parts
        if not others:
            return first
        going: list[int] = []
        before = 0
        for part in parts:
            going += [before + j for j in part.going]
            before += len(part.jobs)
        tensors = {
            name: torch.cat([part.tensors[name] for part in parts], PER_JOB[name.partition(".")[0]])
            for name in first.tensors
        }
        lists: dict[str, Any] = {name: [x for part in parts for x in getattr(part, name)] for name in LISTS}
        tried = [[x for part in parts for x in part.tried[k]] for k in range(len(first.tried))]
        return replace(first, **lists, going=going, tried=tried, tensors=tensors)

    def written(self) -> tuple[Tensors, dict[str, Any]]:
        """Tensors, and the rest as plain values."""
        plain = {name: value for name, value in vars(self).items() if name != "tensors"}
        return {name: x.contiguous() for name, x in self.tensors.items()}, plain


Stage = Callable[[], Checkpoint]  # a moment between steps, at which a checkpoint can be made
