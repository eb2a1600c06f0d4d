"""GD++ (von Oswald et al., 2023): a linear transformer whose layers also move the covariates, with or without memory.

    Z_{l+1} = Z_l + sum_heads Attn_{P_l, Q_l}(Z_l) / n      P_l = [[B_l, 0], [0, 1]],  Q_l = -[[A_l^T, 0], [0, 0]]

With B = 0 it is the linear transformer; with B_l proportional to the identity, gradient descent on covariates that
each layer makes better conditioned: x <- x - B_l G A_l^T x. With memory (Dutta & Sra, arXiv 2410.07263) the sum of
heads R_l joins what earlier layers left, in all rows and with gates per entry of Z where the memory is lfom:

    cgd    S_l = R_l + gamma_l S_{l-1}     Z_{l+1} = Z_l + alpha_l S_l / n
    lfom   Z_{l+1} = Z_l + sum_{j <= l} Gamma_j (.) R_j / n
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor

from .attention import attention, prediction
from .base import Normal, Params, TokenModel


@dataclass(frozen=True, kw_only=True)
class GdPlusPlus(TokenModel):
    """A_l and B_l are any matrices. memory: of whole layers. heads: each with its own A and B, which makes it wider."""

    memory: Literal["none", "cgd", "lfom"] = "none"
    heads: Annotated[int, Ge(1)] = 1

    @property
    def context(self) -> bool:
        """Gates per entry of Z belong to positions."""
        return self.memory == "lfom"

    def init(self, d: int, n: int, normal: Normal) -> Params:
        """A, B: jobs depth*heads d d; cgd: alpha, jobs depth, gamma, jobs depth-1; lfom: Gamma, jobs depth d+1 n+1."""
        size = self.depth * self.heads
        params = {"A": normal(size, d, d), "B": normal(size, d, d)}
        if self.memory == "cgd":
            return params | {"alpha": 1 + normal(self.depth), "gamma": normal(self.depth - 1)}
        return params | ({"Gamma": 1 + normal(self.depth, d + 1, n + 1)} if self.memory == "lfom" else {})

    def predictions(self, params: Params, Z: Float[Tensor, "... d_1 n_1 prompts"]) -> Iterator[Tensor]:
        """After 0 .. depth layers."""
        n = Z.shape[-2] - 1
        past: list[Tensor] = []
        yield prediction(Z)
        for l in range(self.depth):
            R: Tensor | None = None
            for h in range(l * self.heads, (l + 1) * self.heads):
                head = attention(params["A"][..., h, :, :], Z, params["B"][..., h, :, :])
                R = head if R is None else R + head
            assert R is not None
            change, past = self._recall(params, l, R, past)
            Z = Z + change / n
            yield prediction(Z)

    def _recall(self, params: Params, l: int, R: Tensor, past: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """What layer l adds, and the memory after it."""
        if self.memory == "none":
            return R, past
        if self.memory == "cgd":
            S = R + params["gamma"][..., l - 1, None, None, None] * past[0] if past else R
            return params["alpha"][..., l, None, None, None] * S, [S]
        change: Tensor | None = None
        for j, remembered in enumerate([*past, R]):
            term = params["Gamma"][..., j, :, :, None] * remembered
            change = term if change is None else change + term
        assert change is not None
        return change, [*past, R]
