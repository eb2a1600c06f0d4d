"""A pack in the middle of its training: all that is needed to go on, for all its jobs or for some.

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
LISTS = ("jobs", "loss", "trial", "steps", "reason", "budget")  # fields with an entry per job
JOB_AXIS = {"state": 1, "best": 0, "curve": 2}  # by group of tensors; the state has live jobs alone


@dataclass(frozen=True)
class Checkpoint:
    """Where training is, which jobs still train and with which trials, their state; the best so far and the curve of
    every job.

    begin: the last validation round. first: the next step. live: positions of the jobs that still train. trials: which
    trials of them, trials x live.
    """

    jobs: list[str]
    begin: int
    first: int
    live: list[int]
    trials: list[list[int]]
    loss: list[float]
    trial: list[int]
    steps: list[int]
    reason: list[str | None]
    budget: list[int]
    points: list[int]
    engine: str | None  # how steps run
    tensors: Tensors  # state.x: trials live ...; best.x: jobs ...; curve.x: points trials jobs

    @property
    def point(self) -> tuple[int, int, int]:
        """Jobs at one point can go on as one pack: the validation round, the step, and how many trials are left."""
        return self.begin, self.first, len(self.trials)

    def select(self, ids: Sequence[str]) -> Checkpoint:
        """The checkpoint of some of the jobs, in this order."""
        position, column = ({x: i for i, x in enumerate(entries)} for entries in (self.jobs, self.live))
        positions = [position[job] for job in ids]
        live = [i for i, j in enumerate(positions) if j in column]
        columns = [column[positions[i]] for i in live]
        indices = {"state": columns, "best": positions, "curve": positions}
        tensors = {}
        for name, x in self.tensors.items():
            group = name.partition(".")[0]
            tensors[name] = x.index_select(JOB_AXIS[group], torch.tensor(indices[group], dtype=torch.int64))
        lists: dict[str, Any] = {name: [getattr(self, name)[i] for i in positions] for name in LISTS}
        trials = [[row[c] for c in columns] for row in self.trials]
        return replace(self, **lists, live=live, trials=trials, tensors=tensors)

    @staticmethod
    def join(parts: Sequence[Checkpoint]) -> Checkpoint:
        """Several checkpoints at one point as one."""
        first, *others = parts
        if not others:
            return first
        live: list[int] = []
        before = 0
        for part in parts:
            live += [before + j for j in part.live]
            before += len(part.jobs)
        tensors = {
            name: torch.cat([part.tensors[name] for part in parts], JOB_AXIS[name.partition(".")[0]])
            for name in first.tensors
        }
        lists: dict[str, Any] = {name: [x for part in parts for x in getattr(part, name)] for name in LISTS}
        trials = [[x for part in parts for x in part.trials[k]] for k in range(len(first.trials))]
        return replace(first, **lists, live=live, trials=trials, tensors=tensors)

    def split(self) -> tuple[Tensors, dict[str, Any]]:
        """The tensors, and everything else as plain values."""
        plain = {name: value for name, value in vars(self).items() if name != "tensors"}
        return {name: x.contiguous() for name, x in self.tensors.items()}, plain


Stage = Callable[[], Checkpoint]  # a moment between steps, at which a checkpoint can be made
