"""The linear transformer with P = 0 (Ahn et al., 2023): preconditioned gradient descent with learned preconditioners.

    on tokens   Z_{l+1} = Z_l + Attn_{P_l, Q_l}(Z_l) / n      P_l = [[0, 0], [0, 1]],  Q_l = -[[A_l^T, 0], [0, 0]]
    on (G, b)   w_{l+1} = w_l - A_l (G w_l - b)               w_0 = 0

Both are the same function of the prompt (Lemma 1 there): -[Z_l]_{d+1, n+1} = <w_l, query>. Several heads add up to
one A_l: more parameters, larger steps of the optimiser, the same set of functions. If looped, all layers share one A.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor

from .algebra import Shape, matrices, precondition, preconditioner
from .attention import read, summary
from .base import Method, Normal, Params, Problem, Span
from .best_lfom import BestLfom


class Attentive(Method):
    """The common part of P = 0 transformers with and without memory. Subclasses declare and describe the fields."""

    family: ClassVar[Literal["learned"]] = "learned"
    preconditioner: Shape
    looped: bool
    heads: int
    tokens: bool

    @property
    def span(self) -> Span | None:
        """The Krylov space of G, with fixed coefficients, for scalar A; None for others."""
        return Span("identity", fixed=True) if self.preconditioner == "scalar" else None

    @property
    def on_tokens(self) -> bool:
        """Whether the form on tokens is asked for."""
        return self.tokens

    def init(self, d: int, n: int, normal: Normal) -> Params:
        """Initial A: jobs layers*heads (d (d)), layer after layer; one layer where they are looped."""
        layers = 1 if self.looped else self.depth
        return {"A": preconditioner(self.preconditioner, layers * self.heads, d, normal)}

    def step(self, params: Params, l: int, g: Float[Tensor, "*jobs d prompts"]) -> Tensor:
        """The step A_l g, in the form on (G, b)."""
        return precondition(self.preconditioner, self.summed(params["A"]), 0 if self.looped else l, g)

    def summed(self, A: Tensor) -> Tensor:
        """The sum of A over the heads of each layer."""
        if self.heads == 1:
            return A
        axis = -1 - {"scalar": 0, "diagonal": 1, "full": 2}[self.preconditioner]
        layers = 1 if self.looped else self.depth
        summed: Tensor = A.unflatten(axis, (layers, self.heads)).sum(axis)
        return summed

    def matrix(self, params: Params, l: int, d: int) -> Float[Tensor, "*jobs d d"]:
        """The preconditioner A_l as a matrix, whatever its shape."""
        return matrices(self.preconditioner, self.summed(params["A"]), d)[..., 0 if self.looped else l, :, :]


@dataclass(frozen=True, kw_only=True)
class LinearTransformer(Attentive):
    """The linear transformer.

    preconditioner: A_l = a_l I ("scalar"), a diagonal, or any matrix. looped: one A for all layers.
    heads: the number of heads, whose A add up.
    start: of training: random numbers, or the best method in closed form, A_l = M / r_l, with the roots r_l of its
        residual polynomial and M the identity or, where A is full, Sigma^{-1}.
    tokens: the form on tokens; the numbers are the same, except that the query is sampled.
    """

    preconditioner: Shape
    looped: bool = False
    heads: Annotated[int, Ge(1)] = 1
    start: Literal["random", "bound"] = "random"
    tokens: bool = False

    def check(self, d: int, n: int) -> None:
        """Check that there is a bound to start from, where one is asked for."""
        if self.start == "bound" and (self.preconditioner == "diagonal" or self.looped or self.heads > 1):
            raise ValueError("start: a bound to start from needs one scalar or full A for each layer")

    @property
    def needs(self) -> frozenset[str]:
        """The facts that the bound needs, where training starts from one."""
        return self.bound.needs if self.bound else frozenset()

    @property
    def bound(self) -> BestLfom | None:
        """The method in closed form that training starts from; None where it starts from random numbers."""
        if self.start == "random":
            return None
        return BestLfom(depth=self.depth, preconditioner="covariance" if self.preconditioner == "full" else "identity")

    def layers(self, r: Float[Tensor, "jobs depth"], inverse: Float[Tensor, "jobs d d"] | None) -> Params:
        """The parameters of w_{l+1} = w_l - M (G w_l - b) / r_l; inverse: Sigma^{-1}."""
        if self.preconditioner == "scalar":
            return {"A": 1 / r}
        assert inverse is not None
        return {"A": inverse[:, None] / r[..., None, None]}

    def iterates(self, params: Params, problem: Problem) -> Iterator[Float[Tensor, "*jobs d prompts"]]:
        """Yield w_0 .. w_depth."""
        w = problem.start()
        yield w
        for l in range(self.depth):
            w = w - self.step(params, l, problem.gradient(w))
            yield w

    def predictions(self, params: Params, Z: Float[Tensor, "... d_1 n_1 prompts"]) -> Iterator[Tensor]:
        """Yield the predictions at the query of the form on tokens, after 0 .. depth layers."""
        X, y = Z[..., :-1, :, :], Z[..., -1, :, :]
        d, n = X.shape[-3], X.shape[-2] - 1
        yield -y[..., -1, :]
        for l in range(self.depth):
            y = y + read(self.matrix(params, l, d), X, summary(X, y)) / n
            yield -y[..., -1, :]
