"""A linear first-order method, learned directly: no transformer (Dutta & Sra, arXiv 2410.07263).

    free   w_{k+1} = w_0 + sum_{i <= k} Gamma_i^k grad R(w_i)
    tied   w_{k+1} = w_k + sum_{i <= k} Gamma_i grad R(w_i)       as published: Gamma_i is the same for all later k

Gamma is a number, a diagonal or any matrix. Gradient descent, heavy ball, Nesterov and Chebyshev are free LFOMs with
scalar Gamma. If tied, every step adds all past gradients again with the same weights: a three-term recurrence with
momentum 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from .algebra import Shape, precondition, preconditioner
from .base import Method, Normal, Params, Problem, Span


@dataclass(frozen=True, kw_only=True)
class Lfom(Method):
    """A learned linear first-order method. coefficients: the form of Gamma. tied: the same Gamma_i in all steps k."""

    family: ClassVar[Literal["learned"]] = "learned"
    coefficients: Shape
    tied: bool = False

    @property
    def span(self) -> Span | None:
        """The Krylov space of G, with fixed coefficients, for scalar Gamma; None for others."""
        return Span("identity", fixed=True) if self.coefficients == "scalar" else None

    def init(self, d: int, n: int, normal: Normal) -> Params:
        """Initial Gamma: jobs depth (d (d)) where tied, else jobs depth (depth + 1) / 2 (d (d)), k after k."""
        count = self.depth if self.tied else self.depth * (self.depth + 1) // 2
        return {"Gamma": preconditioner(self.coefficients, count, d, normal)}

    def iterates(self, params: Params, problem: Problem) -> Iterator[Float[Tensor, "*jobs d prompts"]]:
        """Yield w_0 .. w_depth."""
        w0 = w = problem.start()
        gradients: list[Tensor] = []
        yield w
        for k in range(self.depth):
            gradients.append(problem.gradient(w))
            w = w if self.tied else w0
            for i, g in enumerate(gradients):
                index = i if self.tied else k * (k + 1) // 2 + i
                w = w + precondition(self.coefficients, params["Gamma"], index, g)
            yield w
