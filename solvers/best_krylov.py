"""The best vector of a prompt's Krylov space: a lower bound for every method that builds its iterates from gradients.

    w_k = the point of span{M b, M G M b, ...}, k vectors, that is nearest to w* in the norm of the error at the query

This holds whatever the coefficients, even if chosen for each prompt: on no prompt do gradient descent, momentum,
conjugate gradients, L-BFGS or any linear first-order method with scalar coefficients have a smaller error. Conjugate
gradients find the nearest point in the norm of G instead of Sigma, which needs no oracle.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from .algebra import conditioner, dot, ratio
from .base import Known, Oracle, Problem


@dataclass(frozen=True, kw_only=True)
class BestKrylov(Oracle):
    """The nearest point of each Krylov space. preconditioner: M, the identity, or covariance, Sigma^{-1}."""

    preconditioner: Known

    @property
    def needs(self) -> frozenset[str]:
        """A quadratic risk, a w*, and Sigma^{-1} where it is the preconditioner."""
        return frozenset({"quadratic", "linear"} | ({"covariance"} if self.preconditioner == "covariance" else set()))

    def answers(
        self, problem: Problem, root: Tensor, w_star: Float[Tensor, "*jobs d prompts"]
    ) -> Iterator[Float[Tensor, "*jobs d prompts"]]:
        """Yield w_0 .. w_depth, by the Gram-Schmidt process in the norm of the error."""

        def in_error_norm(v: Tensor) -> Tensor:
            """The vector root^T v, whose length is the norm of v."""
            return (root.transpose(-2, -3) * v.unsqueeze(-3)).sum(-2)

        w = problem.start()
        M = conditioner(self.preconditioner, problem)
        v = M(-problem.gradient(w))
        basis: list[tuple[Tensor, Tensor]] = []
        yield w
        for _ in range(self.depth):
            direction = v
            for _again in range(2):  # once leaves rounding errors of nearly parallel vectors
                for e, squared_norm in basis:
                    direction = direction - ratio(dot(in_error_norm(e), in_error_norm(direction)), squared_norm) * e
            squared_norm = dot(in_error_norm(direction), in_error_norm(direction))
            w = w + ratio(dot(in_error_norm(direction), in_error_norm(w_star - w)), squared_norm) * direction
            basis.append((direction, squared_norm))
            yield w
            v = M(problem.curvature(direction))
