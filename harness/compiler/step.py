"""One step of all members of a pack, as functions of tensors, and its eager execution by PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lfombench.tasks import Prompts, Random

from .streams import Streams

Tensors = dict[str, Tensor]
Draw = Callable[[Tensors, Random, int], Prompts]
Update = Callable[[Tensors, Tensors, Prompts, Tensor], tuple[Tensors, Tensors]]


@dataclass(frozen=True)
class Step:
    """A training or test step of a pack: a function that draws a batch of prompts, and one that updates the state.

    draw: (job, random, prompts) -> a batch. update: (job, state, batch, t) -> (the entries of the state that change,
    records). `job` holds tensors `jobs ...`, `state` and records `trials jobs ...`; the prompts are the last axis of a
    record with a value per prompt; t counts steps from 0.
    """

    draw: Draw = field(compare=False)
    update: Update = field(compare=False)
    prompts: int
    renew: int | None  # steps that use the same batch; None: all of them
    dtype: torch.dtype
    name: Hashable = field(default_factory=object)  # equal only where draw and update are the same program
    identity: str | None = None  # the same in other processes: equal only where they are; None where nobody can tell


class Eager:
    """A step that PyTorch runs eagerly, one tensor operation at a time."""

    name = "eager"

    def __init__(self, step: Step, job: Tensors, state: Tensors, key: Tensor) -> None:
        self.step, self.job, self.state, self.key = step, job, state, key

    def __call__(self, first: int, count: int, begin: int = 0) -> Tensors:
        """Run steps first .. first + count - 1 on the prompts from `begin` on; update the state in place.

        Returns the records, `steps trials jobs ...`.
        """
        records_by_step: list[Tensors] = []
        batch: Prompts | None = None
        for t in range(first, first + count):
            if batch is None or (self.step.renew and t % self.step.renew == 0):
                random = Streams(self.key, self.step.dtype, t // self.step.renew if self.step.renew else 0, begin)
                batch = self.step.draw(self.job, random, self.step.prompts)
            step_number = torch.tensor(t, device=self.key.device)
            changes, records = self.step.update(self.job, self.state, batch, step_number)
            self.state.update(changes)
            records_by_step.append(records)
        return {name: torch.stack([records[name] for records in records_by_step]) for name in records_by_step[0]}


def grouped(group: str, tensors: Tensors) -> Tensors:
    """The same tensors with each name `x` extended to `group.x`."""
    return {f"{group}.{name}": value for name, value in tensors.items()}


def in_group(name: str, tensors: Mapping[str, Tensor]) -> Tensors:
    """The tensors that are called `name.x`, each under its short name `x`."""
    return {key.partition(".")[2]: value for key, value in tensors.items() if key.startswith(f"{name}.")}
