"""In-context linear regression (Garg et al., 2022; Ahn et al., 2023).

    x = U D z            Sigma = U D^2 U^T
    w* ~ N(0, Sigma^{-1}) as U D^{-1} g, so that every direction of x has the same weight; or N(0, I); or sparse;
         times strength
    y_i = <w*, x_i> + noise e_i

Where only G = X^T X / n and b = X^T y / n are needed and x is Gaussian, X is not drawn: n G is Wishart, and Bartlett
(1933) draws it as L L^T with L = U D T, T lower triangular, T_ij ~ N(0, 1) below the diagonal and T_ii^2 ~ chi^2 with
n - i degrees of freedom, i = 0, 1, ...; the noise enters b as L z / n, z ~ N(0, I).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt
from jaxtyping import Float
from torch import Tensor

from .base import Fact, Random
from .covariates import Regression, columns
from .problem import Law, Quadratic, apply
from .prompts import Examples, Prompts

LIMIT = 1e-10  # relative to Sigma: the penalty where there is no noise, so that G + Lambda can be inverted


@dataclass(frozen=True, kw_only=True)
class LinearRegression(Regression):
    """Labels from a linear teacher w*.

    weights: w* ~ N(0, Sigma^{-1}), N(0, I), or sparse: `support` entries that are not 0, with E |w*|^2 = d.
    strength: a factor on w*.
    """

    weights: Literal["inverse_covariance", "isotropic", "sparse"] = "inverse_covariance"
    support: Annotated[float, Ge(1)] | None = None
    strength: Annotated[float, Gt(0)] = 1.0

    def check(self) -> None:
        """Check that a support is given exactly where it is needed, and that Sigma^{-1} exists where w* needs it."""
        super().check()
        if (self.weights == "sparse") != (self.support is not None):
            raise ValueError(f"support: {'needed for' if self.support is None else 'only for'} weights: sparse")
        if self.support is not None and self.support > self.d:
            raise ValueError(f"support: got {self.support:g}, at most d = {self.d}")
        if self.support is not None and self.support % 1:
            raise ValueError(f"support: got {self.support:g}, must be a whole number")
        if self.weights == "inverse_covariance" and self.spectrum is not None and not all(self.spectrum):
            raise ValueError(
                "spectrum: has zeros, so there is no Sigma^{-1} for w* ~ N(0, Sigma^{-1}); say weights: isotropic"
            )

    @property
    def facts(self) -> frozenset[Fact]:
        """A regression's facts, and: a linear teacher with known covariance, perhaps Gaussian; (G, b) without X."""
        facts: set[Fact] = {"linear", "prior"}
        if self.weights != "sparse" and not self.heteroscedastic:
            facts.add("bayes")
        if self.bartlett:
            facts.add("statistics")
        return super().facts | facts

    @property
    def bartlett(self) -> bool:
        """Whether n G is Wishart, so that Bartlett's decomposition draws it."""
        plain = not self.heteroscedastic and (self.correlation, self.mean, self.tails) == (None, None, None)
        return self.covariates == "gaussian" and plain

    def law(self, random: Random, frame: Tensor | None, prompts: int) -> Law:
        """The law with the penalty of the best linear estimate: noise^2 / n times the precision of w*, or nearly 0."""
        law = super().law(random, frame, prompts)
        noise, strength = (
            torch.as_tensor(x, dtype=law.root.dtype, device=law.root.device).reshape(-1, 1, 1, 1)
            for x in (self.noise, self.strength)
        )
        if self.weights == "inverse_covariance":
            precision = (law.root.unsqueeze(2) * law.root.unsqueeze(1)).sum(3)
            scale = torch.ones_like(noise)
        else:
            precision = torch.eye(self.d, dtype=law.root.dtype, device=law.root.device)[None, :, :, None]
            scale = law.root.square().sum((1, 2), keepdim=True) / self.d  # Sigma's mean eigenvalue
        return replace(law, penalty=precision * ((noise / strength).square() / self.n + LIMIT * scale))

    def examples(self, random: Random, frame: Tensor | None, prompts: int) -> Examples:
        """Draw prompts with all their examples, through X."""
        law = self.law(random, frame, prompts)
        z, query = self.draw(random, prompts)
        X = columns(law.root, z)
        w_star = self.teacher(random, law, prompts)
        y = (X * w_star.unsqueeze(-2)).sum(-3) + self.error(random, z)
        return Examples(X, y, apply(law.root, query), law, w_star)

    def prompts(self, random: Random, frame: Tensor | None, prompts: int) -> Prompts:
        """Draw (G, b) by Bartlett's decomposition, without X, where x is Gaussian."""
        if not self.bartlett:
            return super().prompts(random, frame, prompts)
        d, n, rank = self.d, self.n, min(self.d, self.n)
        law = self.law(random, frame, prompts)
        diagonal = random.chi([n - i for i in range(rank)], prompts)
        below = random.normal(d * rank - rank * (rank + 1) // 2, prompts)
        T = torch.cat([diagonal, below, torch.zeros_like(diagonal[:, :1])], 1)[:, torch.tensor(_triangle(d, rank))]
        width = -(-rank // 4) if rank >= 16 else rank  # of four blocks of columns, without the zeros above each
        L = torch.cat([columns(law.root[:, :, k:], T[:, k:, k : k + width]) for k in range(0, rank, width)], 2)
        G = (L.unsqueeze(1) * L.unsqueeze(2)).sum(3) / n
        w_star = self.teacher(random, law, prompts)
        b = (G * w_star.unsqueeze(-3)).sum(-2) + self.noise / n * apply(L, random.normal(rank, prompts))
        return Prompts(Quadratic(law, G, b), w_star, law.root)

    def teacher(self, random: Random, law: Law, prompts: int) -> Float[Tensor, "streams d prompts"]:
        """Draw w* for every prompt."""
        w = self.strength * random.normal(self.d, prompts)
        match self.weights:
            case "inverse_covariance":
                assert law.dual is not None
                return apply(law.dual, w)
            case "isotropic":
                return w
            case "sparse":
                assert self.support is not None
                support = torch.as_tensor(self.support, dtype=w.dtype, device=w.device).reshape(-1, 1, 1)
                u = random.uniform(self.d, prompts)
                rank = (u.unsqueeze(1) < u.unsqueeze(2)).to(w.dtype).sum(2)
                return torch.where(rank < support, w * (self.d / support).sqrt(), torch.zeros_like(w))


def _triangle(d: int, rank: int) -> list[list[int]]:
    """Indices of a lower triangular d x rank matrix in a list of its diagonal, the entries below it, and a zero."""
    below = iter(range(rank, d * rank))
    zero = d * rank - rank * (rank - 1) // 2
    return [[i if i == j else next(below) if i > j else zero for j in range(rank)] for i in range(d)]
