"""Conjugate gradients on the normal equations (Hestenes & Stiefel, 1952).

w+ = w + a p      a = <r, r> / <p, G p>
r+ = r - a G p    c = <r+, r+> / <r, r>
p+ = r+ + c p     r = b - G w
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from .base import Method, Params, Problem, dot, ratio


@dataclass(frozen=True, kw_only=True)
class ConjugateGradient(Method):
    """Exact line search along conjugate directions; no parameters; exact after d steps without noise.

    depth: steps.
    """

    family: ClassVar[Literal["classical"]] = "classical"

    def iterates(self, params: Params, problem: Problem) -> Iterator[Float[Tensor, "*jobs d prompts"]]:
        """w_0 .. w_depth."""
        w = problem.start()
        r = p = -problem.gradient(w)
        yield w
        for _ in range(self.depth):
            Gp = problem.curvature(p)
            a = ratio(dot(r, r), dot(p, Gp))
            w, r_old, r = w + a * p, r, r - a * Gp
            p = r + ratio(dot(r, r), dot(r_old, r_old)) * p
            yield w
