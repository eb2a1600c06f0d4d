"""Limited-memory BFGS (Nocedal, 1980); its step minimises a quadratic model of the risk along each direction.

w+ = w - a p      a = <g, p> / <p, H p>      p = B g by the two-loop recursion over the last `memory` pairs
s = w+ - w        y = g+ - g                 B_0 = I

On a quadratic risk the line search is exact, and the iterates are those of conjugate gradients whatever the memory
(Nazareth, 1979); on others it need not be exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor

from .algebra import dot, ratio
from .base import Method, Params, Problem, Span


@dataclass(frozen=True, kw_only=True)
class LBfgs(Method):
    """Limited-memory BFGS. memory: the number of pairs (s, y) that are stored."""

    family: ClassVar[Literal["classical"]] = "classical"
    memory: Annotated[int, Ge(1)] = 5

    @property
    def span(self) -> Span:
        """The Krylov space of G, with coefficients of each prompt's own."""
        return Span("identity", fixed=False)

    def iterates(self, params: Params, problem: Problem) -> Iterator[Float[Tensor, "*jobs d prompts"]]:
        """Yield w_0 .. w_depth."""
        w = problem.start()
        g = problem.gradient(w)
        pairs: list[tuple[Tensor, Tensor]] = []
        yield w
        for _ in range(self.depth):
            p = self._direction(g, pairs)
            a = ratio(dot(g, p), dot(p, problem.curvature(p, w)))
            s = -a * p
            w = w + s
            g_new = problem.gradient(w)
            pairs = [*pairs, (s, g_new - g)][-self.memory :]
            g = g_new
            yield w

    def _direction(self, g: Tensor, pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
        """The direction B g, by the two-loop recursion."""
        q, alphas = g, []
        for s, y in reversed(pairs):
            alphas.append(ratio(dot(s, q), dot(s, y)))
            q = q - alphas[-1] * y
        for (s, y), alpha in zip(pairs, reversed(alphas), strict=True):
            q = q + s * (alpha - ratio(dot(y, q), dot(s, y)))
        return q
