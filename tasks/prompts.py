"""A batch of prompts with all examples, as (G, b), or as tokens; and how answers to them are judged.

A prompt is n labelled examples (x_i, y_i) in R^d x R and a query x with its target. A gradient method sees only the
gradient of the examples' risk: where it is quadratic, G = X^T X / n and b = X^T y / n. Axes as in `problem.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from .problem import Law, Logistic, Quadratic, Risk, apply


@dataclass(frozen=True)
class Prompts:
    """A batch of prompts as a first-order method sees it, and how its answers are judged.

    `judge` is Sigma^{1/2} where the query is integrated out (E <w - w*, x>^2 = |judge^T (w - w*)|^2), and the query
    itself, a d x 1 matrix per prompt, where it is sampled; then w* is any vector that gives the target there. `tokens`
    is the input of a token model.
    """

    problem: Risk
    w_star: Float[Tensor, "*streams d prompts"]
    judge: Float[Tensor, "*streams d k some"]
    tokens: Float[Tensor, "*streams d_1 n_1 prompts"] | None = None

    def residual(self, w: Float[Tensor, "*jobs d prompts"]) -> Float[Tensor, "... k prompts"]:
        """judge^T (w - w*): a vector affine in w, whose squared length is the error at the query."""
        return apply(self.judge.transpose(-2, -3), w - self.w_star)

    def target(self) -> Float[Tensor, "*streams prompts"]:
        """The target <w*, query> of the query among the tokens."""
        assert self.tokens is not None
        return (self.tokens[..., :-1, -1, :] * self.w_star).sum(-2)

    def squared_error(self, w: Float[Tensor, "*jobs d prompts"]) -> Float[Tensor, "... prompts"]:
        """The squared error at the query of every prompt."""
        return self.residual(w).square().sum(-2)


@dataclass(frozen=True)
class Examples:
    """A batch of prompts with all examples, the query, and what generated them.

    Either w_star is given (the target is <w*, query>), or the target itself, where no vector generates it.
    """

    X: Float[Tensor, "*streams d n prompts"]
    y: Float[Tensor, "*streams n prompts"]
    query: Float[Tensor, "*streams d prompts"]
    law: Law
    w_star: Float[Tensor, "*streams d prompts"] | None = None
    target: Float[Tensor, "*streams prompts"] | None = None
    logistic: bool = False  # labels are -1 and 1, and the risk is logistic

    def withhold(self, count: int) -> Examples:
        """The same prompts without their last `count` examples."""
        remaining = self.y.shape[-2] - count
        return replace(self, X=self.X[..., :remaining, :], y=self.y[..., :remaining, :])

    def leave_one_out(self, *, tokens: bool = False) -> Prompts:
        """Use every example in turn as the query, its label as the target, and the others as the examples. The result
        has the leading axes `n 1`; the second is for other axes in front of jobs.

        G_-i = (n G - x_i x_i^T) / (n - 1), b_-i = (n b - x_i y_i) / (n - 1).
        """
        n, whole = self.y.shape[-2], self.problem()
        assert isinstance(whole, Quadratic)
        x, y = self.X.movedim(-2, 0).unsqueeze(1), self.y.movedim(-2, 0).unsqueeze(1)
        G = (n * whole.G - x.unsqueeze(-3) * x.unsqueeze(-2)) / (n - 1)
        b = (n * whole.b - x * y.unsqueeze(-2)) / (n - 1)
        w = x * (y / x.square().sum(-2)).unsqueeze(-2)
        left_out = Prompts(Quadratic(self.law, G, b), w, x.unsqueeze(-2))
        if not tokens:
            return left_out
        others = torch.tensor([[j for j in range(n) if j != i] for i in range(n)], device=self.y.device)
        X = self.X[..., others, :].movedim(-3, 0).unsqueeze(1)
        labels = self.y[..., others, :].movedim(-3, 0).unsqueeze(1)
        return replace(left_out, tokens=Examples(X, labels, x, self.law).tokens())

    def problem(self) -> Risk:
        """The risk of the examples."""
        if self.logistic:
            return Logistic(self.law, self.X, self.y)
        n = self.y.shape[-2]
        G = torch.einsum("sinp,sjnp->sijp", self.X, self.X) / n
        b = torch.einsum("sinp,snp->sip", self.X, self.y) / n
        return Quadratic(self.law, G.contiguous(), b.contiguous())  # einsum leaves prompts first in memory

    def prompts(self, *, sampled_query: bool) -> Prompts:
        """The same prompts as a risk, judged at their own query, or over all queries where w_star is known."""
        if self.w_star is None:
            assert self.target is not None, "Examples need w_star or target"
            w = self.query * (self.target / self.query.square().sum(-2)).unsqueeze(-2)
            return Prompts(self.problem(), w, self.query.unsqueeze(-2))
        return Prompts(self.problem(), self.w_star, self.query.unsqueeze(-2) if sampled_query else self.law.root)

    def with_tokens(self) -> Prompts:
        """The same prompts with their tokens, judged at their own query."""
        return replace(self.prompts(sampled_query=True), tokens=self.tokens())

    def tokens(self) -> Float[Tensor, "*streams d_1 n_1 prompts"]:
        """The tokens Z_0 = [[x_1 .. x_n, query], [y_1 .. y_n, 0]], the input of a token model."""
        X = torch.cat([self.X, self.query.unsqueeze(-2)], -2)
        y = torch.cat([self.y, torch.zeros_like(self.y[..., :1, :])], -2)
        return torch.cat([X, y.unsqueeze(-3)], -3)
