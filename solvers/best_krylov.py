"""The best vector of a prompt's Krylov space: a floor under every method that builds its iterates from gradients.

    w_k = the point of span{M b, M G M b, ...}, k vectors, that is nearest to w* in the norm of the error at the query

Whatever the coefficients, and were they chosen for each prompt: gradient descent, momentum, conjugate gradients,
L-BFGS and any linear first-order method with scalar coefficients stay above it, prompt for prompt. Conjugate gradients
are this point in the norm of G instead of Sigma, which needs no oracle.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from .algebra import conditioned, dot, ratio
from .base import Known, Oracle, Problem


@dataclass(frozen=True, kw_only=True)
class BestKrylov(Oracle):
    """preconditioner: M, the identity, or covariance, Sigma^{-1}."""

    preconditioner: Known

    @property
    def needs(self) -> frozenset[str]:
        """A quadratic risk, a w*, and Sigma^{-1} where it preconditions."""
        return frozenset({"quadratic", "linear"} | ({"covariance"} if self.preconditioner == "covariance" else set()))

    def answers(
        self, problem: Problem, root: Tensor, w_star: Float[Tensor, "*jobs d prompts"]
    ) -> Iterator[Float[Tensor, "*jobs d prompts"]]:
        """w_0 .. w_depth, by Gram and Schmidt in the norm of the error."""

        def seen(v: Tensor) -> Tensor:
            """root^T v, whose length is the norm."""
            return (root.transpose(-2, -3) * v.unsqueeze(-3)).sum(-2)

        w = problem.start()
        v = conditioned(self.preconditioner, problem, -problem.gradient(w))
        basis: list[tuple[Tensor, Tensor]] = []
        yield w
        for _ in range(self.depth):
            direction = v
            for _again in range(2):  # once leaves rounding errors of nearly parallel vectors
                for e, length in basis:
                    direction = direction - ratio(dot(seen(e), seen(direction)), length) * e
            length = dot(seen(direction), seen(direction))
            w = w + ratio(dot(seen(direction), seen(w_star - w)), length) * direction
            basis.append((direction, length))
            yield w
            v = conditioned(self.preconditioner, problem, problem.curvature(direction))
