"""Teachers that are not linear, each drawn anew for every prompt; f(x) has mean square d, as the linear one's.

    quadratic   f = <w, z> + curvature sum_i v_i (z_i^2 - 1) / sqrt(2), scaled        w, v ~ N(0, I)
    network     f = sqrt(2 / (1 + leak^2) width) sum_j a_j relu(<v_j, z>)             (Garg et al., 2022: leak = 0)
    sine        f = sqrt(2 d / features) sum_j a_j sin(frequency <v_j, z> + phi_j)    v_j ~ N(0, I / d)
    logistic    P(y = 1) = sigma(<w*, x>); the target is the logit; w* ~ N(0, strength^2 Sigma^{-1})

x = U D z. Nothing that is linear in x can be exact on the first three: they ask how a method fares that is wrong.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le
from jaxtyping import Float
from torch import Tensor

from .base import Fact, NonNegative, Random
from .covariates import Regression, columns
from .problem import apply
from .prompts import Examples

Width = Annotated[int, Ge(1), Le(10_000)]
Positive = Annotated[float, Gt(0)]


@dataclass(frozen=True, kw_only=True)
class Nonlinear(Regression):
    """Labels f(x) + noise, and the target f(x) at a sampled query."""

    @abstractmethod
    def value(self, random: Random, z: Float[Tensor, "streams d m prompts"]) -> Float[Tensor, "streams m prompts"]:
        """f at m points, of a teacher drawn for each prompt."""

    def examples(self, random: Random, frame: Tensor | None, prompts: int) -> Examples:
        """Prompts in full, through X."""
        law = self.law(random, frame, prompts)
        z, query = self.draw(random, prompts)
        f = self.value(random, torch.cat([z, query.unsqueeze(2)], 2))
        y = f[:, : self.n] + self.error(random, z)
        return Examples(columns(law.root, z), y, apply(law.root, query), law, target=f[:, self.n])


@dataclass(frozen=True, kw_only=True)
class QuadraticRegression(Nonlinear):
    """A linear teacher and squares of each coordinate. curvature: of the squares; 0 is linear."""

    curvature: NonNegative = 1.0

    def value(self, random: Random, z: Float[Tensor, "streams d m prompts"]) -> Float[Tensor, "streams m prompts"]:
        """<w, z> + curvature <v, (z^2 - 1) / sqrt 2>, scaled."""
        w, v = (random.normal(self.d, z.shape[-1]).unsqueeze(2) for _ in range(2))
        straight, bent = (w * z).sum(1), (v * (z.square() - 1)).sum(1) / math.sqrt(2)
        scale = (1 + self.curvature * self.curvature) ** 0.5
        value: Tensor = straight / scale + bent * (self.curvature / scale)
        return value


@dataclass(frozen=True, kw_only=True)
class ReluNetwork(Nonlinear):
    """A network of one hidden layer. width: its units. leak: slope of its units below 0; 1 is a linear teacher."""

    width: Width = 20
    leak: Annotated[float, Ge(0), Le(1)] = 0.0

    def value(self, random: Random, z: Float[Tensor, "streams d m prompts"]) -> Float[Tensor, "streams m prompts"]:
        """sqrt(2 / (1 + leak^2) width) sum_j a_j relu(<v_j, z>)."""
        v = random.normal(self.width, self.d, z.shape[-1])
        a = random.normal(self.width, z.shape[-1])
        leak = torch.as_tensor(self.leak, dtype=z.dtype, device=z.device).reshape(-1, 1, 1, 1)
        s = (v.unsqueeze(3) * z.unsqueeze(1)).sum(2)  # streams width m prompts
        hidden = (torch.relu(s) - leak * torch.relu(-s)) / (1 + leak * leak).sqrt()
        return math.sqrt(2 / self.width) * (a.unsqueeze(2) * hidden).sum(1)


@dataclass(frozen=True, kw_only=True)
class SineFeatures(Nonlinear):
    """A sum of sine waves. features: how many; frequency: of all."""

    features: Width = 20
    frequency: Positive = 1.0

    def value(self, random: Random, z: Float[Tensor, "streams d m prompts"]) -> Float[Tensor, "streams m prompts"]:
        """sqrt(2 d / features) sum_j a_j sin(frequency <v_j, z> + phi_j)."""
        v = random.normal(self.features, self.d, z.shape[-1]) / math.sqrt(self.d)
        a = random.normal(self.features, z.shape[-1])
        phase = 2 * math.pi * random.uniform(self.features, 1, z.shape[-1])
        frequency = torch.as_tensor(self.frequency, dtype=z.dtype, device=z.device).reshape(-1, 1, 1, 1)
        angle = frequency * (v.unsqueeze(3) * z.unsqueeze(1)).sum(2) + phase
        return math.sqrt(2 * self.d / self.features) * (a.unsqueeze(2) * torch.sin(angle)).sum(1)


@dataclass(frozen=True, kw_only=True)
class LogisticRegression(Regression):
    """Labels -1 and 1 by a logistic model; methods meet the logistic risk, and the target is the logit.

    strength: of w*.
    Labels are drawn, so there is no further noise.
    """

    strength: Positive = 1.0

    def check(self) -> None:
        """No label noise; Sigma^{-1}."""
        super().check()
        if self.noise or self.heteroscedastic:
            raise ValueError("noise: logistic labels are drawn as they are; leave it out")
        if self.spectrum is not None and not all(self.spectrum):
            raise ValueError("spectrum: has zeros, so there is no Sigma^{-1} for w* ~ N(0, strength^2 Sigma^{-1})")

    @property
    def facts(self) -> frozenset[Fact]:
        """The target is linear in x; the risk is not quadratic."""
        return frozenset({"linear", "covariance"})

    def examples(self, random: Random, frame: Tensor | None, prompts: int) -> Examples:
        """Prompts in full, through X."""
        law = self.law(random, frame, prompts)
        z, query = self.draw(random, prompts)
        assert law.dual is not None
        w_star = self.strength * apply(law.dual, random.normal(self.d, prompts))
        X = columns(law.root, z)
        chance = torch.sigmoid((X * w_star.unsqueeze(-2)).sum(-3))
        drawn = random.uniform(self.n, prompts)
        y = torch.where(drawn < chance, torch.ones_like(drawn), -torch.ones_like(drawn))
        return Examples(X, y, apply(law.root, query), law, w_star, logistic=True)
