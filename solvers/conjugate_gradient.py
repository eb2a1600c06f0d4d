"""Conjugate gradients on the normal equations (Hestenes & Stiefel, 1952), preconditioned or not.

w+ = w + a p      a = <r, z> / <p, G p>       z = M r
r+ = r - a G p    c = <r+, z+> / <r, z>
p+ = z+ + c p     r = b - G w
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from .algebra import Preconditioner, conditioner, dot, known, needs, ratio
from .base import Method, Params, Problem, Span


@dataclass(frozen=True, kw_only=True)
class ConjugateGradient(Method):
    """Exact line search along conjugate directions; no parameters; exact after d steps without noise.

    depth: number of steps. preconditioner: M, the identity, Sigma^{-1} (covariance), or 1 over the diagonal of G
    (jacobi).
    """

    family: ClassVar[Literal["classical"]] = "classical"
    preconditioner: Preconditioner = "identity"

    @property
    def needs(self) -> frozenset[str]:
        """A quadratic risk, and what the preconditioner needs."""
        return needs(self.preconditioner) | {"quadratic"}

    @property
    def span(self) -> Span | None:
        """The preconditioner's Krylov space, with coefficients of each prompt's own; None for jacobi."""
        where = known(self.preconditioner)
        return where and Span(where, fixed=False)

    def iterates(self, params: Params, problem: Problem) -> Iterator[Float[Tensor, "*jobs d prompts"]]:
        """Yield w_0 .. w_depth."""
        w = problem.start()
        M = conditioner(self.preconditioner, problem)
        r = -problem.gradient(w)
        z = p = M(r)
        yield w
        for _ in range(self.depth):
            Gp = problem.curvature(p)
            a = ratio(dot(r, z), dot(p, Gp))
            rz_old = dot(r, z)
            w, r = w + a * p, r - a * Gp
            z = M(r)
            p = z + ratio(dot(r, z), rz_old) * p
            yield w
