"""GD++ (von Oswald et al., 2023): a linear transformer whose layers also change the covariates, with or without memory.

    on tokens   Z_{l+1} = Z_l + Attn_{P_l, Q_l}(Z_l) / n      P_l = [[B_l, 0], [0, 1]],  Q_l = -[[A_l^T, 0], [0, 0]]
    on (G, b)   w_{l+1} = w_l - T_l^T A_l T_l (G w_l - b)     T_{l+1} = (I - B_l T_l G T_l^T A_l^T) T_l,  T_0 = I

A layer multiplies all covariates of a prompt, the query's too, by one matrix: x_l = T_l x. So their Gram matrix is
T_l G T_l^T, the products of the remaining labels with them are -T_l grad R(w_l), and the prediction stays linear in the
query: gradient descent with a preconditioner that the layers compute from the prompt's own curvature. B = 0 is the
linear transformer. Several heads are a sum over A and B, and can represent more than one head can.

With memory (Dutta & Sra, arXiv 2410.07263) the change of Z by layer l is not R_l = Attn(Z_l) alone but

    cgd    alpha_l S_l    S_l = R_l + gamma_l S_{l-1}, in all rows of Z
    lfom   sum_{j <= l} Gamma_j (.) R_j, a gate per entry of Z: only in the form on tokens
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor

from .attention import attention, prediction
from .base import Method, Normal, Params, Problem

Matrices = Float[Tensor, "... d d _"]  # one per prompt, or one for all


@dataclass(frozen=True, kw_only=True)
class GdPlusPlus(Method):
    """GD++ with any matrices A_l and B_l. memory: of the changes by whole layers. heads: per layer, each with its own A
    and B. tokens: the form on tokens; the numbers are the same, except that the query is sampled.
    """

    family: ClassVar[Literal["learned"]] = "learned"
    memory: Literal["none", "cgd", "lfom"] = "none"
    heads: Annotated[int, Ge(1)] = 1
    tokens: bool = False

    @property
    def needs(self) -> frozenset[str]:
        """A Hessian that is the same everywhere, except in the form on tokens."""
        return frozenset() if self.on_tokens else frozenset({"quadratic"})

    @property
    def on_tokens(self) -> bool:
        """Whether the form on tokens is asked for, or needed by gates per entry."""
        return self.tokens or self.memory == "lfom"

    @property
    def context(self) -> bool:
        """Whether there are gates per entry of Z, which belong to positions in the prompt."""
        return self.memory == "lfom"

    def init(self, d: int, n: int, normal: Normal) -> Params:
        """A, B: jobs depth*heads d d; cgd: alpha, jobs depth, gamma, jobs depth-1; lfom: Gamma, jobs depth d+1 n+1."""
        size = self.depth * self.heads
        params = {"A": normal(size, d, d), "B": normal(size, d, d)}
        if self.memory == "cgd":
            return params | {"alpha": 1 + normal(self.depth), "gamma": normal(self.depth - 1)}
        return params | ({"Gamma": 1 + normal(self.depth, d + 1, n + 1)} if self.memory == "lfom" else {})

    def iterates(self, params: Params, problem: Problem) -> Iterator[Float[Tensor, "*jobs d prompts"]]:
        """Yield w_0 .. w_depth."""
        w = problem.start()
        T = torch.eye(w.shape[-2], dtype=w.dtype, device=w.device).unsqueeze(-1)
        label_memory: Tensor | None = None  # memory of the row of labels
        covariate_memory: Tensor | None = None  # memory of the covariates
        yield w
        for l in range(self.depth):
            heads = [self._head(params, l, h) for h in range(self.heads)]
            gradient = _times(T, problem.gradient(w))
            label_change = _sum([_times(_transposed(T), _times(A, gradient)) for A, _ in heads])
            label_memory = self._remember(params, l, label_change, label_memory, 2)
            w = w - self._scaled(params, l, label_memory, 2)
            yield w
            if l + 1 < self.depth:  # the covariates after the last layer are never seen
                GT = torch.stack([problem.curvature(row) for row in _rows(T, w)], -2)  # G T^T: d d prompts
                K = _product(T, GT) if l else GT
                covariate_change = _sum([_product(B, _product(K, _product(_transposed(A), T))) for A, B in heads])
                covariate_memory = self._remember(params, l, covariate_change, covariate_memory, 3)
                T = T - self._scaled(params, l, covariate_memory, 3)

    def predictions(self, params: Params, Z: Float[Tensor, "... d_1 n_1 prompts"]) -> Iterator[Tensor]:
        """Yield the predictions at the query of the form on tokens, after 0 .. depth layers."""
        n = Z.shape[-2] - 1
        past: list[Tensor] = []
        S: Tensor | None = None
        yield prediction(Z)
        for l in range(self.depth):
            heads = range(l * self.heads, (l + 1) * self.heads)
            R = _sum([attention(params["A"][..., h, :, :], Z, params["B"][..., h, :, :]) for h in heads])
            if self.memory == "lfom":
                past.append(R)
                change = _sum([params["Gamma"][..., j, :, :, None] * R for j, R in enumerate(past)])
            else:
                S = self._remember(params, l, R, S, 3)
                change = self._scaled(params, l, S, 3)
            Z = Z + change / n
            yield prediction(Z)

    def _head(self, params: Params, l: int, h: int) -> tuple[Matrices, Matrices]:
        """The matrices A and B of head h of layer l."""
        A, B = (params[name][..., l * self.heads + h, :, :, None] for name in ("A", "B"))
        return A, B

    def _remember(self, params: Params, l: int, change: Tensor, past: Tensor | None, axes: int) -> Tensor:
        """The memory S_l after layer l; axes: the number of axes of `change` after those of jobs."""
        if self.memory != "cgd" or past is None:
            return change
        return change + _number(params["gamma"], l - 1, axes) * past

    def _scaled(self, params: Params, l: int, S: Tensor, axes: int) -> Tensor:
        """The change of layer l, alpha_l S_l, or S itself without alpha; axes: those of S after those of jobs."""
        return _number(params["alpha"], l, axes) * S if self.memory == "cgd" else S


def _number(values: Tensor, l: int, axes: int) -> Tensor:
    """Layer l's entry of `jobs depth`, with so many axes of size 1 at the end, to broadcast."""
    number = values[..., l]
    return number.reshape(*number.shape, *[1] * axes)


def _sum(terms: list[Tensor]) -> Tensor:
    total, *more = terms
    for term in more:
        total = total + term
    return total


def _transposed(M: Matrices) -> Matrices:
    return M.transpose(-2, -3)


def _times(M: Matrices, v: Float[Tensor, "... d prompts"]) -> Float[Tensor, "... d prompts"]:
    return (M * v.unsqueeze(-3)).sum(-2)


def _product(M: Matrices, N: Matrices) -> Matrices:
    return (M.unsqueeze(-2) * N.unsqueeze(-4)).sum(-3)


def _rows(T: Matrices, w: Float[Tensor, "*jobs d prompts"]) -> list[Tensor]:
    """The rows of T, as vectors for every prompt."""
    return [row.expand_as(w) for row in T.expand(*w.shape[:-2], *T.shape[-3:]).unbind(-3)]
