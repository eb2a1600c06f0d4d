"""Prompts from several tasks, each prompt from one of them: what a single model for all of them is trained on."""

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

LOST: frozenset[Fact] = frozenset({"edges", "prior", "bayes"})  # a mixture of Gaussians is none


@dataclass(frozen=True, kw_only=True)
class Union(Task):
    """Each prompt is of one of the components, all alike likely. A seed turns all alike. Only methods that are told
    Sigma learn which one it is: theirs is the prompt's own.

    components: tasks of this d and n.
    """

    components: tuple[SkipValidation[Task], ...] = field(metadata={"part": "task"})

    def check(self) -> None:
        """Two or more, of one size and one kind of risk."""
        if len(self.components) < 2:
            raise ValueError(f"components: got {len(self.components)}, a union has two or more")
        for one in self.components:
            one.check()
            for name in ("d", "n"):
                if getattr(one, name) != getattr(self, name):
                    raise ValueError(
                        f"components: one has {name} = {getattr(one, name)}, the union {getattr(self, name)}"
                    )
        if len({getattr(one, "rotation", None) == "per_prompt" for one in self.components}) > 1:
            raise ValueError("components: some are rotated anew for each prompt, others are not")
        if len({"quadratic" in one.facts for one in self.components}) > 1:
            raise ValueError("components: some have a quadratic risk, others have not")

    @property
    def facts(self) -> frozenset[Fact]:
        """What all components have and a mixture keeps."""
        return frozenset.intersection(*(one.facts for one in self.components)) - LOST

    def frame(self, random: Random) -> Tensor | None:
        """Every component's, from the same draws: streams components d d; None where none has one."""
        frames = [one.frame(copy(random)) for one in self.components]
        return torch.stack([frame for frame in frames if frame is not None], 1) if frames[0] is not None else None

    def examples(self, random: Random, frame: Tensor | None, prompts: int) -> Examples:
        """Drawn from every component; one of them is taken."""
        choose = _Choice(random, len(self.components), prompts)
        drawn = [one.examples(random, of, prompts) for one, of in self._framed(frame)]
        w_star = choose.unless_none([one.w_star for one in drawn])
        return Examples(
            X=choose([one.X for one in drawn]),
            y=choose([one.y for one in drawn]),
            query=choose([one.query for one in drawn]),
            law=choose.law([one.law for one in drawn]),
            w_star=w_star,
            target=choose([_target(one) for one in drawn]) if w_star is None else None,
            logistic=drawn[0].logistic,
        )

    def prompts(self, random: Random, frame: Tensor | None, prompts: int) -> Prompts:
        """(G, b) without X, where all components can."""
        if "statistics" not in self.facts:
            return super().prompts(random, frame, prompts)
        choose = _Choice(random, len(self.components), prompts)
        drawn = [one.prompts(random, of, prompts) for one, of in self._framed(frame)]
        risks = [one.problem for one in drawn if isinstance(one.problem, Quadratic)]
        risk = Quadratic(
            choose.law([one.law for one in risks]), choose([one.G for one in risks]), choose([one.b for one in risks])
        )
        return Prompts(risk, choose([one.w_star for one in drawn]), choose([one.judge for one in drawn]))

    def _framed(self, frame: Tensor | None) -> Iterator[tuple[Task, Tensor | None]]:
        frames = [None] * len(self.components) if frame is None else frame.unbind(1)
        return zip(self.components, frames, strict=True)


class _Choice:
    """One of several, drawn for each prompt."""

    def __init__(self, random: Random, count: int, prompts: int) -> None:
        self.u = random.uniform(prompts)  # streams prompts
        self.first = [self.u < (k + 1) / count for k in range(count - 1)]  # the first of these that is true is taken

    def __call__(self, values: Sequence[Tensor]) -> Tensor:
        """Of tensors with streams in front and prompts, or what is the same for all, at the end."""
        *others, chosen = values
        for value, taken in zip(reversed(others), reversed(self.first), strict=True):
            chosen = torch.where(taken.view(len(self.u), *[1] * (value.ndim - 2), -1), value, chosen)
        return chosen

    def unless_none(self, values: Sequence[Tensor | None]) -> Tensor | None:
        """None where any is."""
        there = [x for x in values if x is not None]
        return self(there) if len(there) == len(values) else None

    def law(self, laws: Sequence[Law]) -> Law:
        """Its root and dual."""
        return Law(root=self([one.root for one in laws]), dual=self.unless_none([one.dual for one in laws]))


def _target(drawn: Examples) -> Float[Tensor, "streams prompts"]:
    if drawn.target is not None:
        return drawn.target
    assert drawn.w_star is not None
    return (drawn.w_star * drawn.query).sum(1)
