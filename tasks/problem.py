"""The risk of a prompt's examples, as a first-order method sees it: its gradient, and its Hessian times a vector.

Shapes, everywhere: `streams` counts independent random streams (one per task and seed), `jobs` is any number of leading
axes that broadcast with it, `prompts` is the last axis, and `some` is either `prompts` or 1, for what all prompts of a
stream share.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Known = Literal["identity", "covariance"]


def apply(M: Float[Tensor, "*batch d k some"], v: Float[Tensor, "*jobs k prompts"]) -> Float[Tensor, "*jobs d prompts"]:
    """The product M v, with one matrix per prompt, or one for all where M's last axis is 1."""
    return (M * v.unsqueeze(-3)).sum(-2)


@dataclass(frozen=True, kw_only=True)
class Law:
    """What a task knows about its covariates and teacher, for methods that are given this knowledge.

    root: a square root of the covariates' covariance, Sigma = root root^T. dual: its inverse transposed.
    edges: the ends of the spectrum of G, by Marchenko and Pastur (1967); white: the ends of that of Sigma^{-1} G.
    penalty: Lambda in the best linear estimate (G + Lambda)^{-1} b: noise^2 / n times the teacher's precision.
    """

    root: Float[Tensor, "streams d d some"]
    dual: Float[Tensor, "streams d d some"] | None = None
    edges: Float[Tensor, "streams 2"] | None = None
    white: Float[Tensor, "streams 2"] | None = None
    penalty: Float[Tensor, "streams d d some"] | None = None


@dataclass(frozen=True)
class Risk(ABC):
    """A differentiable risk per prompt, in R^d."""

    law: Law

    @abstractmethod
    def start(self) -> Float[Tensor, "*streams d prompts"]:
        """The initial point w_0 = 0."""

    @abstractmethod
    def gradient(self, w: Float[Tensor, "*jobs d prompts"]) -> Float[Tensor, "*jobs d prompts"]:
        """The gradient of the risk at w."""

    @abstractmethod
    def curvature(
        self, p: Float[Tensor, "*jobs d prompts"], w: Float[Tensor, "*jobs d prompts"] | None = None
    ) -> Float[Tensor, "*jobs d prompts"]:
        """The Hessian at w times p; w = None means w_0."""

    def whiten(self, g: Float[Tensor, "*jobs d prompts"]) -> Float[Tensor, "*jobs d prompts"]:
        """The product Sigma^{-1} g, for methods that know the covariates' distribution."""
        dual = self.law.dual
        if dual is None:
            dual = torch.linalg.inv(self.law.root.movedim(-1, -3)).mT.movedim(-3, -1)
        return apply(dual, apply(dual.transpose(-2, -3), g))

    def penalty(self) -> Float[Tensor, "streams d d some"]:
        """The matrix Lambda in the best linear estimate (G + Lambda)^{-1} b."""
        assert self.law.penalty is not None, "the task knows no penalty"
        return self.law.penalty

    def interval(self, known: Known) -> tuple[Float[Tensor, "streams 1 1"], Float[Tensor, "streams 1 1"]]:
        """The ends of the spectrum of G, or of Sigma^{-1} G, for textbook step sizes."""
        edges = self.law.white if known == "covariance" else self.law.edges
        assert edges is not None, "the task knows no edges"
        return edges[:, :1, None], edges[:, 1:, None]


@dataclass(frozen=True)
class Quadratic(Risk):
    """R(w) = <w, G w> / 2 - <b, w>: the least-squares risk of the prompt's examples, up to a constant."""

    G: Float[Tensor, "*streams d d prompts"]
    b: Float[Tensor, "*streams d prompts"]

    def start(self) -> Float[Tensor, "*streams d prompts"]:
        """The initial point w_0 = 0."""
        return torch.zeros_like(self.b)

    def gradient(self, w: Float[Tensor, "*jobs d prompts"]) -> Float[Tensor, "*jobs d prompts"]:
        """The gradient G w - b."""
        return self.curvature(w) - self.b

    def curvature(
        self, p: Float[Tensor, "*jobs d prompts"], w: Float[Tensor, "*jobs d prompts"] | None = None
    ) -> Float[Tensor, "*jobs d prompts"]:
        """The Hessian times p, G p, the same at every w."""
        return (self.G * p.unsqueeze(-3)).sum(-2)


@dataclass(frozen=True)
class Logistic(Risk):
    """R(w) = mean_i log(1 + exp(-y_i <x_i, w>)), labels -1 and 1."""

    X: Float[Tensor, "streams d n prompts"]
    y: Float[Tensor, "streams n prompts"]

    def start(self) -> Float[Tensor, "streams d prompts"]:
        """The initial point w_0 = 0."""
        return torch.zeros_like(self.X[:, :, 0])

    def gradient(self, w: Float[Tensor, "*jobs d prompts"]) -> Float[Tensor, "*jobs d prompts"]:
        """The gradient -mean_i y_i sigma(-y_i <x_i, w>) x_i."""
        n = self.y.shape[-2]
        weights = self.y * torch.sigmoid(-self.y * self._scores(w)) / n
        return -(self.X * weights.unsqueeze(-3)).sum(-2)

    def curvature(
        self, p: Float[Tensor, "*jobs d prompts"], w: Float[Tensor, "*jobs d prompts"] | None = None
    ) -> Float[Tensor, "*jobs d prompts"]:
        """The Hessian times p, mean_i sigma'(<x_i, w>) x_i <x_i, p>."""
        n = self.y.shape[-2]
        s = torch.sigmoid(self._scores(self.start() if w is None else w))
        return (self.X * (s * (1 - s) * self._scores(p) / n).unsqueeze(-3)).sum(-2)

    def _scores(self, w: Float[Tensor, "*jobs d prompts"]) -> Float[Tensor, "*jobs n prompts"]:
        return (self.X * w.unsqueeze(-2)).sum(-3)
