"""What mixtures share: their experts, and problems in which these are run instead of the prompt's own."""

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
        """The solvers of the experts."""
        return [expert.solver for expert in self.experts]

    def params_of(self, params: Params, e: int) -> Params:
        """The parameters of expert e, under the names that the expert gives them."""
        prefix = f"{e}."
        return {name.removeprefix(prefix): p for name, p in params.items() if name.startswith(prefix)}


class Shared:
    """A problem whose gradient is taken at the state that experts share, whatever w they ask about."""

    def __init__(self, problem: Problem, current_gradient: Tensor) -> None:
        self.problem, self.current_gradient = problem, current_gradient

    def start(self) -> Tensor:
        """The initial point w_0."""
        return self.problem.start()

    def gradient(self, w: Tensor) -> Tensor:
        """The gradient of the risk at the shared state."""
        return self.current_gradient

    def curvature(self, p: Tensor, w: Tensor | None = None) -> Tensor:
        """Raise ValueError: what an expert does with curvature is not an update from the gradient."""
        raise ValueError("combine: an expert asks for more than gradients, so it has no updates; say combine: outputs")

    def whiten(self, g: Tensor) -> Tensor:
        """The product Sigma^{-1} g."""
        return self.problem.whiten(g)

    def penalty(self) -> Tensor:
        """The penalty that the task gives."""
        return self.problem.penalty()

    def interval(self, known: Known) -> tuple[Tensor, Tensor]:
        """The ends of the spectrum that the task gives."""
        return self.problem.interval(known)


@dataclass(frozen=True)
class Flat:
    """A problem whose gradient and Hessian are 0, to try out what a solver asks of a problem."""

    zero: Tensor

    def start(self) -> Tensor:
        """The initial point 0."""
        return self.zero

    def gradient(self, w: Tensor) -> Tensor:
        """The gradient 0."""
        return self.zero

    def curvature(self, p: Tensor, w: Tensor | None = None) -> Tensor:
        """The Hessian times p, 0."""
        return self.zero

    def whiten(self, g: Tensor) -> Tensor:
        """The vector g itself: Sigma is the identity."""
        return g

    def penalty(self) -> Tensor:
        """The penalty 0."""
        return self.zero.unsqueeze(-3)

    def interval(self, known: Known) -> tuple[Tensor, Tensor]:
        """The ends 1 and 1 of the spectrum."""
        one = torch.ones(1, 1, 1)
        return one, one


@dataclass(frozen=True)
class Plain:
    """A quadratic problem without knowledge of its task. G: ... d d prompts, b: ... d prompts."""

    G: Tensor
    b: Tensor

    def start(self) -> Tensor:
        """The initial point w_0 = 0."""
        return torch.zeros_like(self.b)

    def gradient(self, w: Tensor) -> Tensor:
        """The gradient G w - b."""
        return self.curvature(w) - self.b

    def curvature(self, p: Tensor, w: Tensor | None = None) -> Tensor:
        """The Hessian times p, G p."""
        return (self.G * p.unsqueeze(-3)).sum(-2)

    def whiten(self, g: Tensor) -> Tensor:
        """Raise ValueError: Sigma is not known."""
        raise ValueError("a prompt's context does not say what Sigma is")

    def penalty(self) -> Tensor:
        """Raise ValueError: teacher and noise are not known."""
        raise ValueError("a prompt's context does not say what teacher and noise are")

    def interval(self, known: Known) -> tuple[Tensor, Tensor]:
        """Raise ValueError: the ends of the spectrum are not known."""
        raise ValueError("a prompt's context does not say where the spectrum ends")
