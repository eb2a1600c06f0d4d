"""Sigma estimated: a method that is told the covariates' covariance elsewhere is told that of its training prompts.

    Sigma^ = mean of G over the training prompts = X^T X / (n K), X all their examples        K n < d: its pseudoinverse
    whiten(g) = Sigma^^{-1} g        Lambda^ = Sigma^ tr(Sigma^{-1} Lambda) / d

So conjugate gradients, gradient descent and the like precondition with it. Of the penalty Lambda that the Bayes
estimate wants, noise^2 / n times the precision of w* ~ N(0, Sigma^{-1}), its size is told and its shape estimated.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import SkipValidation
from torch import Tensor

from .algebra import hessian
from .base import Fitted, Known, Method, Params, Problem, Residual, Solver


@dataclass(frozen=True, kw_only=True)
class Estimated(Fitted):
    """method: a solver of this depth that preconditions with Sigma^{-1}, or a Bayes estimate."""

    family: ClassVar[Literal["learned"]] = "learned"
    method: SkipValidation[Solver] = field(metadata={"part": "solver"})

    @property
    def needs(self) -> frozenset[str]:
        """What the method needs, and a quadratic risk, whose Hessian says what Sigma is."""
        return self.method.needs | {"quadratic"}

    def check(self, d: int, n: int) -> None:
        """A method that is told Sigma, and has nothing to train."""
        one = self.method
        if not isinstance(one, Method) or one.trains or one.fits:
            raise ValueError(
                f"method: {type(one).__name__} has parameters of its own; only others can be told what Sigma is"
            )
        if not one.needs & {"covariance", "prior"}:
            raise ValueError(
                f"method: {type(one).__name__} is not told Sigma; such is preconditioner: covariance, or bayes"
            )
        if one.depth != self.depth:
            raise ValueError(f"method: is of depth {one.depth}, this of {self.depth}")
        one.check(d, n)

    def moments(self, params: Params, problem: Problem, residual: Residual) -> Params:
        """Sigma: jobs d d, the sum of G; count: jobs 1, of prompts."""
        G = hessian(problem, problem.start())
        return {"Sigma": G.sum(-1), "count": torch.ones_like(G[..., 0, 0, :]).sum(-1, keepdim=True)}

    def fit(self, moments: Params) -> Params:
        """Sigma and its pseudoinverse."""
        Sigma = moments["Sigma"] / moments["count"].unsqueeze(-1)
        return {"Sigma": Sigma, "inverse": torch.linalg.pinv(Sigma, hermitian=True)}

    def iterates(self, params: Params, problem: Problem) -> Iterator[Float[Tensor, "*jobs d prompts"]]:
        """The method's."""
        assert isinstance(self.method, Method)
        yield from self.method.iterates({}, Told(problem, params["Sigma"], params["inverse"]))


@dataclass(frozen=True)
class Told:
    """A problem of which the method is told what was estimated."""

    problem: Problem
    Sigma: Float[Tensor, "*jobs d d"]
    inverse: Float[Tensor, "*jobs d d"]

    def start(self) -> Tensor:
        """w_0, with the axes of the estimates."""
        w = self.problem.start()
        return w.expand(*self.Sigma.shape[:-2], *w.shape[-2:])

    def gradient(self, w: Tensor) -> Tensor:
        """grad R."""
        return self.problem.gradient(w)

    def curvature(self, p: Tensor, w: Tensor | None = None) -> Tensor:
        """The Hessian times p."""
        return self.problem.curvature(p, w)

    def whiten(self, g: Tensor) -> Tensor:
        """Sigma^^{-1} g."""
        return (self.inverse.unsqueeze(-1) * g.unsqueeze(-3)).sum(-2)

    def penalty(self) -> Tensor:
        """Lambda^."""
        true = self.problem.penalty()
        white = torch.stack([self.problem.whiten(column) for column in true.unbind(-2)], -2)  # Sigma^{-1} Lambda
        d = white.shape[-2]
        size = torch.stack([white[..., i, i, :] for i in range(d)]).sum(0) / d
        return self.Sigma.unsqueeze(-1) * size[..., None, None, :]

    def interval(self, known: Known) -> tuple[Tensor, Tensor]:
        """The task's."""
        return self.problem.interval(known)
