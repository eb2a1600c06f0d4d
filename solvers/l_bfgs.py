"""Limited-memory BFGS (Nocedal, 1980), with the step along each direction that a quadratic model of the risk has.

w+ = w - a p      a = <g, p> / <p, H p>      p = B g by the two-loop recursion over the last `memory` pairs
s = w+ - w        y = g+ - g                 B_0 = I

On a quadratic risk the line search is exact, and the iterates are those of conjugate gradients whatever the memory
(Nazareth, 1979); on others it need not be.
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
    """memory: pairs (s, y) kept."""

    family: ClassVar[Literal["classical"]] = "classical"
    memory: Annotated[int, Ge(1)] = 5

    @property
    def span(self) -> Span:
        """Each prompt has its own coefficients."""
        return Span("identity", fixed=False)

    def iterates(self, params: Params, problem: Problem) -> Iterator[Float[Tensor, "*jobs d prompts"]]:
        """w_0 .. w_depth."""
        w = problem.start()
        g = problem.gradient(w)
        pairs: list[tuple[Tensor, Tensor]] = []
        yield w
        for _ in range(self.depth):
            p = self._direction(g, pairs)
            a = ratio(dot(g, p), dot(p, problem.curvature(p, w)))
            s = -a * p
            w = w + s
            ahead = problem.gradient(w)
            pairs = [*pairs, (s, ahead - g)][-self.memory :]
            g = ahead
            yield w

    def _direction(self, g: Tensor, pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
        """B g."""
        q, shares = g, []
        for s, y in reversed(pairs):
            shares.append(ratio(dot(s, q), dot(s, y)))
            q = q - shares[-1] * y
        for (s, y), share in zip(pairs, reversed(shares), strict=True):
            q = q + s * (share - ratio(dot(y, q), dot(s, y)))
        return q
