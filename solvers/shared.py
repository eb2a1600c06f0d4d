"""What mixtures share: experts, and problems that stand in for others, whose gradient is taken elsewhere, say."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from pydantic import SkipValidation
from torch import Tensor

from .base import Known, Params, Problem, Solver


@dataclass(frozen=True, kw_only=True)
class Mixed(Solver):
    """A solver that is made of experts, trained beforehand; their parameters are named 0.A, 1.A, ..."""

    experts: tuple[SkipValidation[Any], ...] = field(metadata={"part": "expert"})

    @property
    def models(self) -> list[Solver]:
        """The experts' solvers."""
        return [one.solver for one in self.experts]

    def of(self, params: Params, e: int) -> Params:
        """An expert's."""
        begin = f"{e}."
        return {name.removeprefix(begin): p for name, p in params.items() if name.startswith(begin)}


class Shared:
    """A problem whose gradient is taken at the state that experts share, whatever w they ask about."""

    def __init__(self, problem: Problem, slope: Tensor) -> None:
        self.problem, self.slope = problem, slope

    def start(self) -> Tensor:
        """w_0."""
        return self.problem.start()

    def gradient(self, w: Tensor) -> Tensor:
        """grad R at the shared w."""
        return self.slope

    def curvature(self, p: Tensor, w: Tensor | None = None) -> Tensor:
        """Not to be had: what an expert does with it is not an update from the gradient."""
        raise ValueError("combine: an expert asks for more than gradients, so it has no updates; say combine: outputs")

    def whiten(self, g: Tensor) -> Tensor:
        """Sigma^{-1} g."""
        return self.problem.whiten(g)

    def penalty(self) -> Tensor:
        """The task's."""
        return self.problem.penalty()

    def interval(self, known: Known) -> tuple[Tensor, Tensor]:
        """The task's."""
        return self.problem.interval(known)


@dataclass(frozen=True)
class Flat:
    """A problem of zeros."""

    zero: Tensor

    def start(self) -> Tensor:
        """0."""
        return self.zero

    def gradient(self, w: Tensor) -> Tensor:
        """0."""
        return self.zero

    def curvature(self, p: Tensor, w: Tensor | None = None) -> Tensor:
        """0."""
        return self.zero

    def whiten(self, g: Tensor) -> Tensor:
        """As it is."""
        return g

    def penalty(self) -> Tensor:
        """0."""
        return self.zero.unsqueeze(-3)

    def interval(self, known: Known) -> tuple[Tensor, Tensor]:
        """From 1 to 1."""
        one = torch.ones(1, 1, 1)
        return one, one


@dataclass(frozen=True)
class Plain:
    """A quadratic problem that knows nothing of where its prompts come from. G: ... d d prompts, b: ... d prompts."""

    G: Tensor
    b: Tensor

    def start(self) -> Tensor:
        """w_0 = 0."""
        return torch.zeros_like(self.b)

    def gradient(self, w: Tensor) -> Tensor:
        """G w - b."""
        return self.curvature(w) - self.b

    def curvature(self, p: Tensor, w: Tensor | None = None) -> Tensor:
        """G p."""
        return (self.G * p.unsqueeze(-3)).sum(-2)

    def whiten(self, g: Tensor) -> Tensor:
        """Not known."""
        raise ValueError("a prompt's context does not say what Sigma is")

    def penalty(self) -> Tensor:
        """Not known."""
        raise ValueError("a prompt's context does not say what teacher and noise are")

    def interval(self, known: Known) -> tuple[Tensor, Tensor]:
        """Not known."""
        raise ValueError("a prompt's context does not say where the spectrum ends")
