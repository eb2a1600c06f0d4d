"""The opponents: models written the way research notebooks write them, token by token.

Prompts first, the whole (n+1) x (n+1) attention, a mask matrix, an nn.Module and torch.optim.Adam, one model at a
time; and the same models as an ensemble under torch.func.vmap. The equations are those of solvers/, and step.py checks
that the losses agree before it times anything.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, stack_module_state, vmap


def attention(P: Tensor, Q: Tensor, Z: Tensor) -> Tensor:
    """P Z M (Z^T Q Z) with tokens as rows: Z is prompts x (n+1) x (d+1)."""
    tokens = Z.shape[1]
    mask = torch.eye(tokens)
    mask[-1, -1] = 0
    scores = torch.einsum("bni,ij,bmj->bnm", Z, Q, Z)
    values = torch.einsum("ij,bnj->bni", P, Z)
    return torch.einsum("bnm,nk,bki->bmi", scores, mask, values)


class NaiveMemformer(nn.Module):
    """Memory in the manner of conjugate gradients, one matrix A per layer; without memory a linear transformer."""

    def __init__(self, depth: int, d: int, *, memory: bool = True, scalar: bool = False) -> None:
        super().__init__()
        self.A = nn.Parameter(0.01 * (torch.randn(depth) if scalar else torch.randn(depth, d, d)))
        if memory:
            self.alpha = nn.Parameter(torch.ones(depth))
            self.gamma = nn.Parameter(torch.zeros(depth))
        self.depth, self.d, self.memory, self.scalar = depth, d, memory, scalar

    def forward(self, Z: Tensor) -> Tensor:
        """The prediction at the query, one per prompt."""
        n = Z.shape[1] - 1
        R = torch.zeros_like(Z)
        for l in range(self.depth):
            P = torch.zeros(self.d + 1, self.d + 1)
            P[self.d, self.d] = 1
            A = self.A[l] * torch.eye(self.d) if self.scalar else self.A[l]
            Q = torch.zeros(self.d + 1, self.d + 1)
            Q = torch.cat([torch.cat([-A.T, Q[: self.d, self.d :]], 1), Q[self.d :]], 0)
            step = attention(P, Q, Z)
            if self.memory:
                R = step + self.gamma[l] * R
                Z = Z + self.alpha[l] * R / n
            else:
                Z = Z + step / n
        return -Z[:, n, self.d]


class NaiveLfom(nn.Module):
    """Memory in the manner of linear first-order methods: a gate for every entry of Z, tied over the layers."""

    def __init__(self, depth: int, d: int, n: int) -> None:
        super().__init__()
        self.A = nn.Parameter(0.01 * torch.randn(depth, d, d))
        self.Gamma = nn.Parameter(torch.ones(depth, n + 1, d + 1))
        self.depth, self.d = depth, d

    def forward(self, Z: Tensor) -> Tensor:
        """The prediction at the query, one per prompt."""
        n = Z.shape[1] - 1
        remembered: list[Tensor] = []
        for l in range(self.depth):
            P = torch.zeros(self.d + 1, self.d + 1)
            P[self.d, self.d] = 1
            Q = torch.zeros(self.d + 1, self.d + 1)
            Q[: self.d, : self.d] = -self.A[l].T
            remembered.append(attention(P, Q, Z))
            for j, R in enumerate(remembered):
                Z = Z + self.Gamma[j] * R / n
        return -Z[:, n, self.d]


class NaiveGdPlusPlus(nn.Module):
    """GD++: P is free, so that layers move the covariates too."""

    def __init__(self, depth: int, d: int) -> None:
        super().__init__()
        self.A = nn.Parameter(0.01 * torch.randn(depth, d, d))
        self.B = nn.Parameter(0.01 * torch.randn(depth, d, d))
        self.depth, self.d = depth, d

    def forward(self, Z: Tensor) -> Tensor:
        """The prediction at the query, one per prompt."""
        n = Z.shape[1] - 1
        for l in range(self.depth):
            P = torch.zeros(self.d + 1, self.d + 1)
            P[: self.d, : self.d] = self.B[l]
            P[self.d, self.d] = 1
            Q = torch.zeros(self.d + 1, self.d + 1)
            Q[: self.d, : self.d] = -self.A[l].T
            Z = Z + attention(P, Q, Z) / n
        return -Z[:, n, self.d]


def prompts(count: int, n: int, root: Tensor) -> tuple[Tensor, Tensor]:
    """Fresh tokens and targets: x = root g, w* = root^-T g'."""
    d = len(root)
    X = torch.randn(count, n + 1, d) @ root.T
    w_star = torch.randn(count, d) @ torch.linalg.inv(root)
    y = torch.einsum("bnd,bd->bn", X, w_star)
    target = y[:, n].clone()
    y[:, n] = 0
    return torch.cat([X, y.unsqueeze(-1)], -1), target


def train(
    model: nn.Module, Z: Tensor, target: Tensor, steps: int, rate: float, fresh: Tensor | None = None
) -> list[float]:
    """Adam on the mean squared error, on one batch or with fresh prompts of the covariance's root; the losses."""
    optimiser = torch.optim.Adam(model.parameters(), lr=rate)
    losses = []
    for _ in range(steps):
        if fresh is not None:
            Z, target = prompts(len(Z), Z.shape[1] - 1, fresh)
        optimiser.zero_grad()
        loss = (model(Z) - target).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


def ensemble(
    models: list[nn.Module], Z: Tensor, target: Tensor, steps: int, rate: float, fresh: Tensor | None = None
) -> list[Tensor]:
    """The same for many models at once under vmap, each on its own prompts; the losses of each step."""
    params, buffers = stack_module_state(models)

    def loss(params: dict[str, Tensor], Z: Tensor, target: Tensor) -> Tensor:
        return (functional_call(models[0], (params, buffers), (Z,)) - target).square().mean()

    def draw(root: Tensor) -> tuple[Tensor, Tensor]:
        return prompts(Z.shape[1], Z.shape[2] - 1, root)

    gradients = vmap(grad_and_value(loss))
    optimiser = torch.optim.Adam(params.values(), lr=rate)
    losses = []
    for _ in range(steps):
        if fresh is not None:
            Z, target = vmap(draw, randomness="different")(fresh)
        found, value = gradients({name: p.detach() for name, p in params.items()}, Z, target)
        for name, p in params.items():
            p.grad = found[name]
        optimiser.step()
        losses.append(value)
    return losses
