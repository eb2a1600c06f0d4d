"""Linear attention on the tokens of a prompt (von Oswald et al., 2023; Ahn et al., 2023).

    Attn_{P,Q}(Z) = P Z M (Z^T Q Z)        M = diag(I_n, 0) hides the query
    P = [[B, 0], [0, 1]]                   Q = -[[A^T, 0], [0, 0]]

The literature writes A for A^T; transposed, A is the preconditioner of the gradient step it makes, symmetric or not.
Z is (d+1) x (n+1), a token per column; the prediction after l layers is -[Z_l]_{d+1, n+1}.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def attention(
    A: Float[Tensor, "*jobs d d"],
    Z: Float[Tensor, "*jobs d_1 n_1 prompts"],
    B: Float[Tensor, "*jobs d d"] | None = None,
) -> Float[Tensor, "*jobs d_1 n_1 prompts"]:
    """Attn_{P,Q}(Z); without B it is 0, and only the label row of the result is not."""
    X = Z[..., :-1, :, :]
    seen = Z[..., :, :-1, :]  # Z M
    scores = -torch.einsum("...jkp,...ij,...itp->...ktp", seen[..., :-1, :, :], A, X)  # M Z^T Q Z
    label = torch.einsum("...kp,...ktp->...tp", seen[..., -1, :, :], scores).unsqueeze(-3)
    if B is None:
        return torch.cat([torch.zeros_like(X).expand(*label.shape[:-3], *X.shape[-3:]), label], -3)
    moved = torch.einsum("...ij,...jkp,...ktp->...itp", B, seen[..., :-1, :, :], scores)
    return torch.cat([moved, label], -3)


def prediction(Z: Float[Tensor, "*jobs d_1 n_1 prompts"]) -> Float[Tensor, "*jobs prompts"]:
    """What the model says of the query's label."""
    return -Z[..., -1, -1, :]
