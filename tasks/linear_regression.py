"""In-context linear regression with Gaussian covariates (Garg et al., 2022; Ahn et al., 2023).

    x = U D g            g ~ N(0, I)      so Sigma = U D^2 U^T
    w* = U D^{-1} g'     g' ~ N(0, I)     so w* ~ N(0, Sigma^{-1}) and every direction matters alike
    y_i = <w*, x_i> + noise e_i           the target at the query carries no noise

X is never needed where only G = X^T X / n and b = X^T y / n are: n G is Wishart, and Bartlett (1933) draws it as
L L^T with L = U D T, T lower triangular, T_ij ~ N(0, 1) below the diagonal and T_ii^2 ~ chi^2 with n - i degrees
of freedom, i = 0, 1, ...; the noise enters b as L z / n, z ~ N(0, I).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Gt
from jaxtyping import Float
from torch import Tensor

from .base import Examples, NonNegative, Prompts, Quadratic, Random, Task, apply


@dataclass(frozen=True, kw_only=True)
class LinearRegression(Task):
    """Gaussian covariates, a linear teacher, optional label noise.

    d, n: dimension, and examples in a prompt.
    spectrum: the diagonal of D, d positive numbers; left out: all ones (isotropic).
    rotation: U is drawn once per seed, anew for each prompt, or is the identity.
    noise: standard deviation of the label noise.
    """

    spectrum: tuple[Annotated[float, Gt(0)], ...] | None = None
    rotation: Literal["per_seed", "per_prompt", "none"] = "per_seed"
    noise: NonNegative = 0.0

    def check(self) -> None:
        """The spectrum has d entries."""
        if self.spectrum is not None and len(self.spectrum) != self.d:
            raise ValueError(f"spectrum: got {len(self.spectrum)} numbers, needs d = {self.d}")

    def frame(self, random: Random) -> Tensor | None:
        """U: streams d d; None where each prompt has its own."""
        if self.rotation == "per_prompt":
            return None
        U = haar(random, self.d, 1).squeeze(-1)
        return U if self.rotation == "per_seed" else torch.eye(self.d).to(U).expand_as(U)

    def examples(self, random: Random, frame: Tensor | None, prompts: int) -> Examples:
        """Prompts in full, through X."""
        root, dual = self._roots(random, frame, prompts)
        X = _columns(root, random.normal(self.d, self.n, prompts))
        query = apply(root, random.normal(self.d, prompts))
        w_star = apply(dual, random.normal(self.d, prompts))
        y = (X * w_star.unsqueeze(-2)).sum(-3) + self.noise * random.normal(self.n, prompts)
        return Examples(X, y, query, w_star, root, dual)

    def prompts(self, random: Random, frame: Tensor | None, prompts: int) -> Prompts:
        """(G, b) by Bartlett's decomposition, without X."""
        d, n, rank = self.d, self.n, min(self.d, self.n)
        root, dual = self._roots(random, frame, prompts)
        diagonal = random.chi([n - i for i in range(rank)], prompts)
        below = random.normal(d * rank - rank * (rank + 1) // 2, prompts)
        T = torch.cat([diagonal, below, torch.zeros_like(diagonal[:, :1])], 1)[:, torch.tensor(_triangle(d, rank))]
        L = _columns(root, T)
        G = (L.unsqueeze(1) * L.unsqueeze(2)).sum(3) / n
        w_star = apply(dual, random.normal(d, prompts))
        b = (G * w_star.unsqueeze(-3)).sum(-2) + self.noise / n * apply(L, random.normal(rank, prompts))
        return Prompts(Quadratic(G, b, root, dual), w_star, root)

    def _roots(self, random: Random, frame: Tensor | None, prompts: int) -> tuple[Tensor, Tensor]:
        """U D and U D^{-1}, for all prompts or for each."""
        U = haar(random, self.d, prompts) if frame is None else frame.unsqueeze(-1)
        if self.spectrum is None:
            return U, U
        D = torch.as_tensor(self.spectrum, dtype=U.dtype, device=U.device)[..., None, :, None]
        return U * D, U / D


def _columns(root: Tensor, M: Float[Tensor, "streams d k prompts"]) -> Float[Tensor, "streams d k prompts"]:
    """root M."""
    return (root.unsqueeze(-2) * M.unsqueeze(1)).sum(2)


def _triangle(d: int, rank: int) -> list[list[int]]:
    """Where the entries of a lower triangular d x rank matrix stand in a list: its diagonal, what is below, a zero."""
    below = iter(range(rank, d * rank))
    zero = d * rank - rank * (rank - 1) // 2
    return [[i if i == j else next(below) if i > j else zero for j in range(rank)] for i in range(d)]


def haar(random: Random, d: int, prompts: int) -> Float[Tensor, "streams d d prompts"]:
    """Rotations and reflections, uniform on O(d): a product of Householder reflections (Stewart, 1980).

    If Q is uniform on O(m - 1) and M(x) e_1 = x / |x| for a Gaussian x, then M(x) diag(1, Q) is uniform on O(m).
    """
    Q = _sign(random.normal(1, 1, prompts))
    for m in range(2, d + 1):
        v = random.normal(m, prompts)
        sign = _sign(v[:, :1])
        v[:, :1] += sign * v.norm(dim=1, keepdim=True)
        B = v.new_zeros(v.shape[0], m, m, prompts)
        B[:, 0, 0] = 1
        B[:, 1:, 1:] = Q
        along = (v.unsqueeze(2) * B).sum(1, keepdim=True)  # v^T B
        reflected = B - 2 * v.unsqueeze(2) * along / v.square().sum(1)[:, None, None]
        Q = -sign.unsqueeze(2) * reflected
    return Q


def _sign(x: Tensor) -> Tensor:
    """-1 or 1, never 0."""
    return torch.where(x < 0, -torch.ones_like(x), torch.ones_like(x))
