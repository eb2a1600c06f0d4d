"""Newton's method, and estimates that solve one linear system.

Newton    w+ = w - (H(w) + epsilon I)^{-1} grad R(w)          on a quadratic risk: least squares after one step
Ridge     w  = (G + Lambda)^{-1} b                           Lambda = noise^2 / n times the precision of w*, or lambda I

With a Gaussian teacher and Gaussian noise Lambda makes ridge the posterior mean: nothing has a lower mean error,
whatever it knows of the distribution. For other teachers of that covariance it is the best linear estimate. Without
noise and with n < d, Lambda goes to 0 from above: ridge is then the shortest w that agrees with the examples, and the
posterior mean the likeliest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor

from .algebra import hessian, solve
from .base import Method, Params, Problem, Span

LIMIT = 1e-10  # relative to the Hessian's mean eigenvalue: in place of a penalty that goes to 0


@dataclass(frozen=True, kw_only=True)
class Newton(Method):
    """Newton's method: on a quadratic risk the first step is exact, and later steps do not change it."""

    family: ClassVar[Literal["classical"]] = "classical"

    @property
    def span(self) -> Span | None:
        """None: it is exact at once, so it is in no Krylov space of few steps."""
        return None

    def iterates(self, params: Params, problem: Problem) -> Iterator[Float[Tensor, "*jobs d prompts"]]:
        """Yield w_0 .. w_depth."""
        w = problem.start()
        yield w
        for _ in range(self.depth):
            w = w - solve(_definite(hessian(problem, w)), problem.gradient(w))
            yield w


@dataclass(frozen=True, kw_only=True)
class Ridge(Method):
    """Least squares, or ridge regression: the same answer after every step, to compare with methods of any depth.

    penalty: lambda, 0 for least squares.
    """

    family: ClassVar[Literal["control"]] = "control"
    penalty: Annotated[float, Ge(0)] = 0.0

    @property
    def needs(self) -> frozenset[str]:
        """The facts that it needs: a quadratic risk."""
        return frozenset({"quadratic"})

    def iterates(self, params: Params, problem: Problem) -> Iterator[Float[Tensor, "*jobs d prompts"]]:
        """Yield w_0 = 0, then depth times the estimate."""
        w = problem.start()
        yield w
        G = hessian(problem, w)
        identity = torch.eye(w.shape[-2], dtype=w.dtype, device=w.device).unsqueeze(-1)
        penalty = torch.as_tensor(self.penalty, dtype=w.dtype, device=w.device)
        w = -solve(_definite(G + penalty.reshape(-1, 1, 1, 1) * identity), problem.gradient(w))
        for _ in range(self.depth):
            yield w


@dataclass(frozen=True, kw_only=True)
class Bayes(Method):
    """The posterior mean: ridge with the penalty that teacher and noise imply. Nothing has a lower mean error."""

    family: ClassVar[Literal["bound"]] = "bound"

    @property
    def needs(self) -> frozenset[str]:
        """A quadratic risk, and the covariance of teacher and noise."""
        return frozenset({"quadratic", "prior"})

    def iterates(self, params: Params, problem: Problem) -> Iterator[Float[Tensor, "*jobs d prompts"]]:
        """Yield w_0 = 0, then depth times the estimate."""
        w = problem.start()
        yield w
        w = -solve(hessian(problem, w) + problem.penalty(), problem.gradient(w))
        for _ in range(self.depth):
            yield w


def _definite(H: Float[Tensor, "*jobs d d prompts"]) -> Float[Tensor, "*jobs d d prompts"]:
    """H with a small multiple of I added, so that it can be inverted."""
    d = H.shape[-2]
    identity = torch.eye(d, dtype=H.dtype, device=H.device).unsqueeze(-1)
    mean = (H * identity).sum((-3, -2), keepdim=True) / d
    return H + LIMIT * mean * identity
