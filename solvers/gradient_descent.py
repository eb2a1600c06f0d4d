"""Gradient descent (Cauchy, 1847).

    w_{l+1} = w_l - eta_l grad R(w_l)

With learned steps it is the P = 0 linear transformer with a scalar preconditioner (Ahn et al., 2023, Lemma 1).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Gt
from jaxtyping import Float
from torch import Tensor

from .base import Method, Normal, Params, Problem


@dataclass(frozen=True, kw_only=True)
class GradientDescent(Method):
    """step: eta, the same for every layer and prompt; left out, one eta_l per layer is learned."""

    step: Annotated[float, Gt(0)] | None = None

    @property
    def family(self) -> Literal["classical", "learned"]:  # type: ignore[override]  # a property where others have a constant
        """Classical with a given step, else learned."""
        return "learned" if self.step is None else "classical"

    def init(self, d: int, normal: Normal) -> Params:
        """eta: jobs depth."""
        return {"eta": normal(self.depth)} if self.step is None else {}

    def iterates(self, params: Params, problem: Problem) -> Iterator[Float[Tensor, "*jobs d prompts"]]:
        """w_0 .. w_depth."""
        w = problem.start()
        yield w
        for l in range(self.depth):
            eta = params["eta"][..., l, None, None] if self.step is None else self.step
            w = w - eta * problem.gradient(w)
            yield w
