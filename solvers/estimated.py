"""Estimated covariance: a method that elsewhere knows Sigma is given an estimate from its training prompts.

    Sigma^ = mean of G over the training prompts = X^T X / (n K), X all their examples        K n < d: its pseudoinverse
    whiten(g) = Sigma^^{-1} g        Lambda^ = Sigma^ tr(Sigma^{-1} Lambda) / d

Conjugate gradients, gradient descent and the like are preconditioned with the estimate. The Bayes estimate needs the
penalty Lambda, noise^2 / n times the precision of w* ~ N(0, Sigma^{-1}): its size is given, and its shape is estimated.
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
    """A method with an estimate of Sigma. method: a solver of this depth, preconditioned with Sigma^{-1}, or Bayes."""

    family: ClassVar[Literal["learned"]] = "learned"
    method: SkipValidation[Solver] = field(metadata={"part": "solver"})

    @property
    def needs(self) -> frozenset[str]:
        """What the method needs, and a quadratic risk, whose Hessian estimates Sigma."""
        return self.method.needs | {"quadratic"}

    def check(self, d: int, n: int) -> None:
        """Check that the method uses Sigma, and has nothing to train."""
        method = self.method
        if not isinstance(method, Method) or method.trains or method.fits:
            raise ValueError(
                f"method: {type(method).__name__} has parameters of its own; "
                "an estimate of Sigma is for methods that have none"
            )
        if not method.needs & {"covariance", "prior"}:
            raise ValueError(
                f"method: {type(method).__name__} does not use Sigma; bayes and preconditioner: covariance do"
            )
        if method.depth != self.depth:
            raise ValueError(f"method: is of depth {method.depth}, this solver of {self.depth}")
        method.check(d, n)

    def moments(self, params: Params, problem: Problem, residual: Residual) -> Params:
        """Sigma: jobs d d, the sum of G over prompts; count: jobs 1, the number of prompts."""
        G = hessian(problem, problem.start())
        return {"Sigma": G.sum(-1), "count": torch.ones_like(G[..., 0, 0, :]).sum(-1, keepdim=True)}

    def fit(self, moments: Params) -> Params:
        """The estimate of Sigma, and its pseudoinverse."""
        Sigma = moments["Sigma"] / moments["count"].unsqueeze(-1)
        return {"Sigma": Sigma, "inverse": torch.linalg.pinv(Sigma, hermitian=True)}

    def iterates(self, params: Params, problem: Problem) -> Iterator[Float[Tensor, "*jobs d prompts"]]:
        """Yield the iterates of the method, run with the estimate."""
        assert isinstance(self.method, Method)
        yield from self.method.iterates({}, EstimatedProblem(problem, params["Sigma"], params["inverse"]))


@dataclass(frozen=True)
class EstimatedProblem:
    """A problem that gives the method the estimated Sigma in place of the true one."""

    problem: Problem
    Sigma: Float[Tensor, "*jobs d d"]
    inverse: Float[Tensor, "*jobs d d"]

    def start(self) -> Tensor:
        """The initial point w_0, with the axes of the estimates."""
        w = self.problem.start()
        return w.expand(*self.Sigma.shape[:-2], *w.shape[-2:])

    def gradient(self, w: Tensor) -> Tensor:
        """The gradient of the risk at w."""
        return self.problem.gradient(w)

    def curvature(self, p: Tensor, w: Tensor | None = None) -> Tensor:
        """The Hessian at w times p."""
        return self.problem.curvature(p, w)

    def whiten(self, g: Tensor) -> Tensor:
        """The product Sigma^^{-1} g with the estimate."""
        return (self.inverse.unsqueeze(-1) * g.unsqueeze(-3)).sum(-2)

    def penalty(self) -> Tensor:
        """The estimated penalty Lambda^."""
        true = self.problem.penalty()
        white = torch.stack([self.problem.whiten(column) for column in true.unbind(-2)], -2)  # Sigma^{-1} Lambda
        d = white.shape[-2]
        size = torch.stack([white[..., i, i, :] for i in range(d)]).sum(0) / d
        return self.Sigma.unsqueeze(-1) * size[..., None, None, :]

    def interval(self, known: Known) -> tuple[Tensor, Tensor]:
        """The ends of the spectrum as the task gives them."""
        return self.problem.interval(known)
