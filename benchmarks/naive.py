"""The yardstick: a Memformer written the way research notebooks write it, token by token, one model at a time.

Prompts first, the whole (n+1) x (n+1) attention, a mask matrix, an nn.Module and torch.optim.Adam; the equations are
those of solvers/memformer.py, and `check` in step.py holds the two equal.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def attention(P: Tensor, Q: Tensor, Z: Tensor) -> Tensor:
    """P Z M (Z^T Q Z) with tokens as rows: Z is prompts x (n+1) x (d+1)."""
    tokens = Z.shape[1]
    mask = torch.eye(tokens)
    mask[-1, -1] = 0
    scores = torch.einsum("bni,ij,bmj->bnm", Z, Q, Z)
    values = torch.einsum("ij,bnj->bni", P, Z)
    return torch.einsum("bnm,nk,bki->bmi", scores, mask, values)


class NaiveMemformer(nn.Module):
    """Memory in the manner of conjugate gradients, one matrix A per layer."""

    def __init__(self, depth: int, d: int) -> None:
        super().__init__()
        self.A = nn.Parameter(0.01 * torch.randn(depth, d, d))
        self.alpha = nn.Parameter(torch.ones(depth))
        self.gamma = nn.Parameter(torch.zeros(depth))
        self.depth, self.d = depth, d

    def forward(self, Z: Tensor) -> Tensor:
        """The prediction at the query, one per prompt."""
        n = Z.shape[1] - 1
        R = torch.zeros_like(Z)
        for l in range(self.depth):
            P = torch.zeros(self.d + 1, self.d + 1)
            P[self.d, self.d] = 1
            Q = torch.zeros(self.d + 1, self.d + 1)
            Q[: self.d, : self.d] = -self.A[l].T
            R = attention(P, Q, Z) + self.gamma[l] * R
            Z = Z + self.alpha[l] * R / n
        return -Z[:, n, self.d]


def train(model: nn.Module, Z: Tensor, target: Tensor, steps: int, rate: float) -> list[float]:
    """Full-batch Adam on the mean squared error; the losses."""
    optimiser = torch.optim.Adam(model.parameters(), lr=rate)
    losses = []
    for _ in range(steps):
        optimiser.zero_grad()
        loss = (model(Z) - target).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses
