"""A mixture of several tasks, with each prompt from one of them, to train one model on all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from pydantic import SkipValidation
from torch import Tensor

from .base import Fact, Random, Task
from .problem import Law, Quadratic
from .prompts import Examples, Prompts

NOT_IN_MIXTURES: frozenset[Fact] = frozenset({"edges", "prior", "bayes"})  # a mixture of Gaussians is not Gaussian


@dataclass(frozen=True, kw_only=True)
class Union(Task):
    """Each prompt is from one of the components, with equal probability. Components share the random numbers of their
    frames, so that one seed rotates all of them alike. Only methods that are given Sigma know which component it is:
    they get Sigma of the prompt itself.

    components: tasks of this d and n.
    """

    components: tuple[SkipValidation[Task], ...] = field(metadata={"part": "task"})

    def check(self) -> None:
        """Check that there are two or more components, of one size, one kind of rotation and one kind of risk."""
        if len(self.components) < 2:
            raise ValueError(f"components: got {len(self.components)}, a union has two or more")
        for component in self.components:
            component.check()
            for name in ("d", "n"):
                if getattr(component, name) != getattr(self, name):
                    raise ValueError(
                        f"components: one has {name} = {getattr(component, name)}, the union {getattr(self, name)}"
                    )
        if len({getattr(component, "rotation", None) == "per_prompt" for component in self.components}) > 1:
            raise ValueError("components: some are rotated anew for each prompt, others are not")
        if len({"quadratic" in component.facts for component in self.components}) > 1:
            raise ValueError("components: some have a quadratic risk, others have not")

    @property
    def facts(self) -> frozenset[Fact]:
        """The facts that all components have and that a mixture preserves."""
        return frozenset.intersection(*(component.facts for component in self.components)) - NOT_IN_MIXTURES

    def frame(self, random: Random) -> Tensor | None:
        """Draw every component's frame from the same numbers, `streams components d d`; None where none has one."""
        frames = [component.frame(copy(random)) for component in self.components]
        return torch.stack([frame for frame in frames if frame is not None], 1) if frames[0] is not None else None

    def examples(self, random: Random, frame: Tensor | None, prompts: int) -> Examples:
        """Draw the prompts of every component in full, and choose one component for each prompt."""
        choose = _Choice(random, len(self.components), prompts)
        batches = [part.examples(random, part_frame, prompts) for part, part_frame in self._framed(frame)]
        w_star = choose.unless_none([batch.w_star for batch in batches])
        return Examples(
            X=choose([batch.X for batch in batches]),
            y=choose([batch.y for batch in batches]),
            query=choose([batch.query for batch in batches]),
            law=choose.law([batch.law for batch in batches]),
            w_star=w_star,
            target=choose([_target(batch) for batch in batches]) if w_star is None else None,
            logistic=batches[0].logistic,
        )

    def prompts(self, random: Random, frame: Tensor | None, prompts: int) -> Prompts:
        """Draw (G, b) without X, where all components can."""
        if "statistics" not in self.facts:
            return super().prompts(random, frame, prompts)
        choose = _Choice(random, len(self.components), prompts)
        batches = [part.prompts(random, part_frame, prompts) for part, part_frame in self._framed(frame)]
        risks = [batch.problem for batch in batches if isinstance(batch.problem, Quadratic)]
        chosen = Quadratic(
            choose.law([risk.law for risk in risks]),
            choose([risk.G for risk in risks]),
            choose([risk.b for risk in risks]),
        )
        return Prompts(chosen, choose([batch.w_star for batch in batches]), choose([batch.judge for batch in batches]))

    def _framed(self, frame: Tensor | None) -> Iterator[tuple[Task, Tensor | None]]:
        frames = [None] * len(self.components) if frame is None else frame.unbind(1)
        return zip(self.components, frames, strict=True)


class _Choice:
    """A component for each prompt, chosen at random."""

    def __init__(self, random: Random, count: int, prompts: int) -> None:
        self.u = random.uniform(prompts)  # streams prompts
        self.first = [self.u < (k + 1) / count for k in range(count - 1)]  # the first of these that is true is taken

    def __call__(self, values: Sequence[Tensor]) -> Tensor:
        """Choose from tensors with streams as first axis, and as last axis prompts, or 1 for what all prompts share."""
        *others, chosen = values
        for value, taken in zip(reversed(others), reversed(self.first), strict=True):
            chosen = torch.where(taken.view(len(self.u), *[1] * (value.ndim - 2), -1), value, chosen)
        return chosen

    def unless_none(self, values: Sequence[Tensor | None]) -> Tensor | None:
        """Choose from these tensors; None where any of them is None."""
        present = [x for x in values if x is not None]
        return self(present) if len(present) == len(values) else None

    def law(self, laws: Sequence[Law]) -> Law:
        """Choose from the laws' roots and duals."""
        return Law(root=self([law.root for law in laws]), dual=self.unless_none([law.dual for law in laws]))


def _target(examples: Examples) -> Float[Tensor, "streams prompts"]:
    if examples.target is not None:
        return examples.target
    assert examples.w_star is not None
    return (examples.w_star * examples.query).sum(1)
