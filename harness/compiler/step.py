"""A step of every member of a pack, and the plain way to run it: tensor by tensor."""

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
    """What happens at a step, in tensors.

    draw: (job, random, prompts) -> a batch. update: (job, state, batch, t) -> (what changes of the state, records).
    `job` holds tensors `jobs ...`, `state` and records `rates jobs ...`, prompts last where records have them; t counts
    steps from 0.
    """

    draw: Draw = field(compare=False)
    update: Update = field(compare=False)
    prompts: int
    renew: int | None  # steps that a batch serves; None: all of them
    dtype: torch.dtype
    name: Hashable = field(default_factory=object)  # equal only where draw and update are the same program


class Eager:
    """A step run by PyTorch as it is written."""

    name = "as written"

    def __init__(self, step: Step, job: Tensors, state: Tensors, key: Tensor) -> None:
        self.step, self.job, self.state, self.key = step, job, state, key

    def __call__(self, first: int, count: int, begin: int = 0) -> Tensors:
        """Steps first .. first + count - 1, of prompts from `begin` on; changes the state, gives records by step."""
        found: list[Tensors] = []
        batch: Prompts | None = None
        for t in range(first, first + count):
            if batch is None or (self.step.renew and t % self.step.renew == 0):
                random = Streams(self.key, self.step.dtype, t // self.step.renew if self.step.renew else 0, begin)
                batch = self.step.draw(self.job, random, self.step.prompts)
            at = torch.tensor(t, device=self.key.device)
            new, records = self.step.update(self.job, self.state, batch, at)
            self.state.update(new)
            found.append(records)
        return {name: torch.stack([records[name] for records in found]) for name in found[0]}


def named(group: str, tensors: Tensors) -> Tensors:
    """Each x as `group.x`."""
    return {f"{group}.{name}": value for name, value in tensors.items()}


def under(name: str, tensors: Mapping[str, Tensor]) -> Tensors:
    """Those named `name.x`, as x."""
    return {key.partition(".")[2]: value for key, value in tensors.items() if key.startswith(f"{name}.")}
