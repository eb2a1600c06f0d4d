"""GD++ (von Oswald et al., 2023): a linear transformer whose layers also move the covariates.

    Z_{l+1} = Z_l + Attn_{P_l, Q_l}(Z_l) / n      P_l = [[B_l, 0], [0, 1]],  Q_l = -[[A_l^T, 0], [0, 0]]

With B = 0 it is the linear transformer; with B_l proportional to the identity, gradient descent on covariates that
each layer makes better conditioned: x <- x - B_l G A_l^T x.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from .attention import attention, prediction
from .base import Normal, Params, TokenModel


@dataclass(frozen=True, kw_only=True)
class GdPlusPlus(TokenModel):
    """A_l and B_l are any matrices."""

    def init(self, d: int, normal: Normal) -> Params:
        """A and B: jobs depth d d."""
        return {"A": normal(self.depth, d, d), "B": normal(self.depth, d, d)}

    def predictions(self, params: Params, Z: Float[Tensor, "... d_1 n_1 prompts"]) -> Iterator[Tensor]:
        """After 0 .. depth layers."""
        n = Z.shape[-2] - 1
        yield prediction(Z)
        for l in range(self.depth):
            Z = Z + attention(params["A"][..., l, :, :], Z, params["B"][..., l, :, :]) / n
            yield prediction(Z)
