"""A transformer with softmax attention from labels to labels (Vaswani et al., 2017): a control for the linear one.

    y_{l+1} = y_l + c_l sum_i y_{l,i} softmax_i <x_i, A_l x>      over the n examples, at every token x

It has a linear transformer's parameters and one more per layer; only labels change, as with P = 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from .attention import softmax
from .base import Normal, Params, TokenModel


@dataclass(frozen=True, kw_only=True)
class SoftmaxTransformer(TokenModel):
    """Layers of softmax attention. A_l is any matrix, c_l a number."""

    def init(self, d: int, n: int, normal: Normal) -> Params:
        """Initial A: jobs depth d d; c: jobs depth."""
        return {"A": normal(self.depth, d, d), "c": normal(self.depth)}

    def predictions(self, params: Params, Z: Float[Tensor, "... d_1 n_1 prompts"]) -> Iterator[Tensor]:
        """Yield the predictions at the query after 0 .. depth layers."""
        X, y = Z[..., :-1, :, :], Z[..., -1, :, :]
        yield -y[..., -1, :]
        for l in range(self.depth):
            y = y + params["c"][..., l, None, None] * softmax(params["A"][..., l, :, :], X, y)
            yield -y[..., -1, :]
