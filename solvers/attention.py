"""Attention on the tokens of a prompt.

Linear (von Oswald et al., 2023; Ahn et al., 2023):

    Attn_{P,Q}(Z) = P Z M (Z^T Q Z)        M = diag(I_n, 0) hides the query
    P = [[B, 0], [0, 1]]                   Q = -[[A^T, 0], [0, 0]]

The literature writes A where we write A^T; transposed, A is the preconditioner of the gradient step that the layer
takes, symmetric or not. Z is (d+1) x (n+1), a token per column; the prediction after l layers is -[Z_l]_{d+1, n+1}.
Where B = 0 only the row of labels changes, so a layer is a function of the constant covariates X and the labels y.
"""

from __future__ import annotations

import functools

import torch
from jaxtyping import Float
from torch import Tensor


def attention(
    A: Float[Tensor, "... d d"], Z: Float[Tensor, "... d_1 n_1 prompts"], B: Float[Tensor, "... d d"]
) -> Float[Tensor, "... d_1 n_1 prompts"]:
    """Linear attention, Attn_{P,Q}(Z).

    The products are taken as P (Z M X^T) (-A^T)^T X: without a softmax between them, the n x n scores are not needed.
    """
    X, examples = Z[..., :-1, :, :], Z[..., :, :-1, :]
    S = (examples.unsqueeze(-3) * examples[..., None, :-1, :, :]).sum(-2)  # Z M X^T: d+1 d prompts
    C = -(S.unsqueeze(-3) * A[..., None, :, :, None]).sum(-2)
    label = (C[..., -1, :, None, :] * X).sum(-3).unsqueeze(-3)
    BC = (B[..., :, :, None, None] * C[..., None, :-1, :, :]).sum(-3)
    covariates = (BC.unsqueeze(-2) * X.unsqueeze(-4)).sum(-3)
    return torch.cat([covariates, label], -3)


def summary(
    X: Float[Tensor, "... d n_1 prompts"], y: Float[Tensor, "... n_1 prompts"]
) -> Float[Tensor, "... d prompts"]:
    """The row of labels of Z M X^T: all that a layer with B = 0 needs of the examples."""
    return (X[..., :, :-1, :] * y[..., None, :-1, :]).sum(-2)


def read(
    A: Float[Tensor, "... d d"], X: Float[Tensor, "... d n_1 prompts"], s: Float[Tensor, "... d prompts"]
) -> Float[Tensor, "... n_1 prompts"]:
    """The row of labels of Attn_{P,Q}(Z) with B = 0, from the summary s: -(A s)^T X."""
    return -((A[..., None] * s.unsqueeze(-3)).sum(-2).unsqueeze(-2) * X).sum(-3)


def softmax(
    A: Float[Tensor, "... d d"], X: Float[Tensor, "... d n_1 prompts"], y: Float[Tensor, "... n_1 prompts"]
) -> Float[Tensor, "... n_1 prompts"]:
    """Softmax attention: at every token j, the labels of the examples averaged with weights softmax_i <x_i, A x_j>."""
    AX = (A[..., :, :, None, None] * X.unsqueeze(-4)).sum(-3)
    examples = X[..., :-1, :]
    scores = (examples.unsqueeze(-2) * AX.unsqueeze(-3)).sum(-4)  # n n+1 prompts
    maximum = functools.reduce(torch.maximum, scores.unbind(-3)).unsqueeze(-3)
    weights = (scores - maximum).exp()
    return (weights * y[..., :-1, None, :]).sum(-3) / weights.sum(-3)


def prediction(Z: Float[Tensor, "... d_1 n_1 prompts"]) -> Float[Tensor, "... prompts"]:
    """The model's prediction of the query's label."""
    return -Z[..., -1, -1, :]
