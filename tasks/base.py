"""What a task is: a distribution of prompts.

A prompt is n labelled examples (x_i, y_i) in R^d x R and a query x with its target <w*, x>.
A gradient method sees of it only G = X^T X / n and b = X^T y / n.

Shapes, everywhere: `streams` counts independent random streams (one per task and seed), `prompts` is the last axis,
and `some` is either `prompts` or 1, for what all prompts of a stream have in common.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Annotated, Protocol, runtime_checkable

import torch
from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor

Dimension = Annotated[int, Ge(1), Le(10_000)]
Count = Annotated[int, Ge(1), Le(1_000_000)]
NonNegative = Annotated[float, Ge(0)]


@runtime_checkable
class Random(Protocol):
    """Independent random streams side by side; every draw has `streams` as its first axis."""

    def normal(self, *shape: int) -> Float[Tensor, "streams ..."]:
        """Standard normals."""

    def uniform(self, *shape: int) -> Float[Tensor, "streams ..."]:
        """Uniforms on [0, 1)."""

    def chi(self, degrees: list[int], prompts: int) -> Float[Tensor, "streams degrees prompts"]:
        """A row per entry of `degrees`, the root of a chi-square variate with so many degrees of freedom."""


def apply(M: Float[Tensor, "*batch d k some"], v: Float[Tensor, "*jobs k prompts"]) -> Float[Tensor, "*jobs d prompts"]:
    """M v, with one matrix per prompt, or one for all where M's last axis is 1."""
    return (M * v.unsqueeze(-3)).sum(-2)


@dataclass(frozen=True)
class Quadratic:
    """R(w) = <w, G w> / 2 - <b, w>, one per prompt: the least-squares risk of the prompt's examples, up to a constant.

    `root` is a square root of the covariates' covariance, Sigma = root root^T, and `dual` its inverse transposed, where
    the task knows it. Only methods that are told Sigma use them.
    """

    G: Float[Tensor, "streams d d prompts"]
    b: Float[Tensor, "streams d prompts"]
    root: Float[Tensor, "streams d d some"]
    dual: Float[Tensor, "streams d d some"] | None = None

    def start(self) -> Float[Tensor, "streams d prompts"]:
        """w_0 = 0."""
        return torch.zeros_like(self.b)

    def gradient(self, w: Float[Tensor, "*jobs d prompts"]) -> Float[Tensor, "*jobs d prompts"]:
        """G w - b."""
        return self.curvature(w) - self.b

    def curvature(self, p: Float[Tensor, "*jobs d prompts"]) -> Float[Tensor, "*jobs d prompts"]:
        """G p."""
        return (self.G * p.unsqueeze(-3)).sum(-2)

    def whiten(self, g: Float[Tensor, "*jobs d prompts"]) -> Float[Tensor, "*jobs d prompts"]:
        """Sigma^{-1} g: what a method may use that knows the covariates' distribution."""
        dual = self.dual
        if dual is None:
            dual = torch.linalg.inv(self.root.movedim(-1, -3)).mT.movedim(-3, -1)
        return apply(dual, apply(dual.transpose(-2, -3), g))


@dataclass(frozen=True)
class Prompts:
    """A batch of prompts as a first-order method meets it, and how its answers are judged.

    `judge` is Sigma^{1/2} where the query is integrated out (E <w - w*, x>^2 = |judge^T (w - w*)|^2),
    and the query itself, a d x 1 matrix per prompt, where it is sampled. `tokens` is what a token model sees.
    """

    problem: Quadratic
    w_star: Float[Tensor, "streams d prompts"]
    judge: Float[Tensor, "streams d k some"]
    tokens: Float[Tensor, "streams d_1 n_1 prompts"] | None = None

    def select(self, streams: list[int]) -> Prompts:
        """A batch whose k-th stream is this one's streams[k]."""
        given = self.problem
        dual = None if given.dual is None else given.dual[streams]
        problem = Quadratic(given.G[streams], given.b[streams], given.root[streams], dual)
        tokens = None if self.tokens is None else self.tokens[streams]
        return Prompts(problem, self.w_star[streams], self.judge[streams], tokens)

    def residual(self, w: Float[Tensor, "*jobs d prompts"]) -> Float[Tensor, "*jobs k prompts"]:
        """judge^T (w - w*): affine in w; its squared length is the error at the query."""
        return apply(self.judge.transpose(-2, -3), w - self.w_star)

    def target(self) -> Float[Tensor, "streams prompts"]:
        """<w*, query> for the query among the tokens."""
        assert self.tokens is not None
        return (self.tokens[:, :-1, -1] * self.w_star).sum(1)

    def squared_error(self, w: Float[Tensor, "*jobs d prompts"]) -> Float[Tensor, "*jobs prompts"]:
        """Squared error at the query of every prompt."""
        return self.residual(w).square().sum(-2)


@dataclass(frozen=True)
class Examples:
    """A batch of prompts in full: the examples, the query, and what generated them."""

    X: Float[Tensor, "streams d n prompts"]
    y: Float[Tensor, "streams n prompts"]
    query: Float[Tensor, "streams d prompts"]
    w_star: Float[Tensor, "streams d prompts"]
    root: Float[Tensor, "streams d d some"]  # Sigma = root root^T
    dual: Float[Tensor, "streams d d some"] | None = None  # its inverse transposed, where it is known

    def withhold(self, count: int) -> Examples:
        """The same prompts without their last `count` examples."""
        keep = self.y.shape[-2] - count
        return replace(self, X=self.X[..., :keep, :], y=self.y[..., :keep, :])

    def problem(self) -> Quadratic:
        """G = X^T X / n and b = X^T y / n."""
        n = self.y.shape[-2]
        G = torch.einsum("sinp,sjnp->sijp", self.X, self.X) / n
        b = torch.einsum("sinp,snp->sip", self.X, self.y) / n
        return Quadratic(G.contiguous(), b.contiguous(), self.root, self.dual)  # einsum leaves prompts first in memory

    def prompts(self, *, sampled_query: bool) -> Prompts:
        """The same prompts reduced to (G, b), judged at their own query or over all queries."""
        return Prompts(self.problem(), self.w_star, self.query.unsqueeze(-2) if sampled_query else self.root)

    def with_tokens(self) -> Prompts:
        """The same prompts as tokens too, judged at their own query."""
        return replace(self.prompts(sampled_query=True), tokens=self.tokens())

    def tokens(self) -> Float[Tensor, "streams d_1 n_1 prompts"]:
        """Z_0 = [[x_1 .. x_n, query], [y_1 .. y_n, 0]]: what a token model sees."""
        X = torch.cat([self.X, self.query.unsqueeze(-2)], -2)
        y = torch.cat([self.y, torch.zeros_like(self.y[..., :1, :])], -2)
        return torch.cat([X, y.unsqueeze(-3)], -3)


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """A distribution of prompts. Float fields may hold one value, or a tensor with one entry per packed stream:
    `streams 1 1` for a float, `streams k` for k floats; so write them with broadcasting.
    """

    d: Dimension
    n: Count

    def check(self) -> None:
        """Raise ValueError, naming the field, where fields do not fit each other."""

    def frame(self, random: Random) -> Tensor | None:
        """What a seed fixes for all its prompts, such as a rotation."""
        return None

    @abstractmethod
    def examples(self, random: Random, frame: Tensor | None, prompts: int) -> Examples:
        """Draw prompts in full."""

    def prompts(self, random: Random, frame: Tensor | None, prompts: int) -> Prompts:
        """Draw prompts as (G, b) with exact queries. Override it where there is a shorter way than through X."""
        return self.examples(random, frame, prompts).prompts(sampled_query=False)
