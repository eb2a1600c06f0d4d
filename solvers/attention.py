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
    A: Float[Tensor, "... d d"],
    Z: Float[Tensor, "... d_1 n_1 prompts"],
    B: Float[Tensor, "... d d"] | None = None,
) -> Float[Tensor, "... d_1 n_1 prompts"]:
    """Attn_{P,Q}(Z); without B it is 0, and only the label row of the result is not.

    The products are taken as P (Z M X^T) (-A^T)^T X: without a softmax between them, n x n scores need never be.
    """
    X, seen = Z[..., :-1, :, :], Z[..., :, :-1, :]
    S = (seen.unsqueeze(-3) * seen[..., None, :-1, :, :]).sum(-2)  # Z M X^T: d+1 d prompts
    C = -(S.unsqueeze(-3) * A[..., None, :, :, None]).sum(-2)
    label = (C[..., -1, :, None, :] * X).sum(-3).unsqueeze(-3)
    if B is None:
        return torch.cat([torch.zeros_like(X).expand(*label.shape[:-3], *X.shape[-3:]), label], -3)
    BC = (B[..., :, :, None, None] * C[..., None, :-1, :, :]).sum(-3)
    moved = (BC.unsqueeze(-2) * X.unsqueeze(-4)).sum(-3)
    return torch.cat([moved, label], -3)


def prediction(Z: Float[Tensor, "... d_1 n_1 prompts"]) -> Float[Tensor, "... prompts"]:
    """What the model says of the query's label."""
    return -Z[..., -1, -1, :]
