"""Gradient descent (Cauchy, 1847), preconditioned or not.

    w_{l+1} = w_l - eta_l M grad R(w_l)

By theory eta = 2 / (mu + L), with mu and L the ends of the spectrum of M G. With a step per layer it is the P = 0
linear transformer with a scalar preconditioner (Ahn et al., 2023, Lemma 1).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from .algebra import Coefficient, Preconditioner, coefficient, coefficients, conditioner, known, needs, trained
from .base import Method, Normal, Params, Problem, Span


@dataclass(frozen=True, kw_only=True)
class GradientDescent(Method):
    """Gradient descent with a step size that is given or trained.

    step: eta, a number, `theory`, `tuned` by the protocol, or tuned `per_layer`.
    preconditioner: M, the identity, Sigma^{-1} (covariance), or 1 over the diagonal of G (jacobi).
    """

    step: Coefficient
    preconditioner: Preconditioner = "identity"

    @property
    def family(self) -> Literal["classical", "learned"]:  # type: ignore[override]  # a property where others have a constant
        """Classical with steps given or from theory, else learned."""
        return "learned" if trained(self.step) else "classical"

    @property
    def needs(self) -> frozenset[str]:
        """The facts that step and preconditioner need."""
        return needs(self.preconditioner, self.step)

    @property
    def span(self) -> Span | None:
        """The preconditioner's Krylov space, with fixed coefficients; None for jacobi."""
        where = known(self.preconditioner)
        return where and Span(where, fixed=True)

    def check(self, d: int, n: int) -> None:
        """Check that no theory is asked for jacobi, under which the spectrum is not known."""
        if self.preconditioner == "jacobi" and self.step == "theory":
            raise ValueError("step: no theory for preconditioner jacobi; say tuned, or a number")

    def init(self, d: int, n: int, normal: Normal) -> Params:
        """Initial step, jobs 1 or jobs depth, where it is trained."""
        return coefficients(self.depth, normal, step=self.step)

    def iterates(self, params: Params, problem: Problem) -> Iterator[Float[Tensor, "*jobs d prompts"]]:
        """Yield w_0 .. w_depth."""
        theory: Tensor | float = 0.0
        if self.step == "theory":
            mu, L = problem.interval(known(self.preconditioner) or "identity")
            theory = 2 / (mu + L)
        w = problem.start()
        M = conditioner(self.preconditioner, problem)
        yield w
        for l in range(self.depth):
            eta = coefficient(self.step, "step", params, l, theory)
            w = w - eta * M(problem.gradient(w))
            yield w
