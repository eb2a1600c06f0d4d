"""Nonlinear teachers, each drawn anew for every prompt; f(x) has mean square d, like that of the linear teacher.

    quadratic   f = <w, z> + curvature sum_i v_i (z_i^2 - 1) / sqrt(2), scaled        w, v ~ N(0, I)
    network     f = sqrt(2 / (1 + leak^2) width) sum_j a_j relu(<v_j, z>)             (Garg et al., 2022: leak = 0)
    sine        f = sqrt(2 d / features) sum_j a_j sin(frequency <v_j, z> + phi_j)    v_j ~ N(0, I / d)
    logistic    P(y = 1) = sigma(<w*, x>); the target is the logit; w* ~ N(0, strength^2 Sigma^{-1})

x = U D z. No predictor that is linear in x is exact on the first three: they test methods whose model is wrong.
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
        """Draw a teacher f for each prompt; its values at m points."""

    def examples(self, random: Random, frame: Tensor | None, prompts: int) -> Examples:
        """Draw prompts with all their examples, through X."""
        law = self.law(random, frame, prompts)
        z, query = self.draw(random, prompts)
        f = self.value(random, torch.cat([z, query.unsqueeze(2)], 2))
        y = f[:, : self.n] + self.error(random, z)
        return Examples(columns(law.root, z), y, apply(law.root, query), law, target=f[:, self.n])


@dataclass(frozen=True, kw_only=True)
class QuadraticRegression(Nonlinear):
    """A linear teacher plus squares of the coordinates. curvature: the weight of the squares; 0 is a linear teacher."""

    curvature: NonNegative = 1.0

    def value(self, random: Random, z: Float[Tensor, "streams d m prompts"]) -> Float[Tensor, "streams m prompts"]:
        """Draw <w, z> + curvature <v, (z^2 - 1) / sqrt 2>, scaled."""
        w, v = (random.normal(self.d, z.shape[-1]).unsqueeze(2) for _ in range(2))
        linear, quadratic = (w * z).sum(1), (v * (z.square() - 1)).sum(1) / math.sqrt(2)
        scale = (1 + self.curvature * self.curvature) ** 0.5
        value: Tensor = linear / scale + quadratic * (self.curvature / scale)
        return value


@dataclass(frozen=True, kw_only=True)
class ReluNetwork(Nonlinear):
    """A network of one hidden layer. width: its number of units. leak: their slope below 0; 1 is a linear teacher."""

    width: Width = 20
    leak: Annotated[float, Ge(0), Le(1)] = 0.0

    def value(self, random: Random, z: Float[Tensor, "streams d m prompts"]) -> Float[Tensor, "streams m prompts"]:
        """Draw sqrt(2 / (1 + leak^2) width) sum_j a_j relu(<v_j, z>), where relu has slope leak below 0."""
        v = random.normal(self.width, self.d, z.shape[-1])
        a = random.normal(self.width, z.shape[-1])
        leak = torch.as_tensor(self.leak, dtype=z.dtype, device=z.device).reshape(-1, 1, 1, 1)
        s = (v.unsqueeze(3) * z.unsqueeze(1)).sum(2)  # streams width m prompts
        hidden = (torch.relu(s) - leak * torch.relu(-s)) / (1 + leak * leak).sqrt()
        return math.sqrt(2 / self.width) * (a.unsqueeze(2) * hidden).sum(1)


@dataclass(frozen=True, kw_only=True)
class SineFeatures(Nonlinear):
    """A sum of sine waves. features: the number of waves. frequency: the frequency of all of them."""

    features: Width = 20
    frequency: Positive = 1.0

    def value(self, random: Random, z: Float[Tensor, "streams d m prompts"]) -> Float[Tensor, "streams m prompts"]:
        """Draw sqrt(2 d / features) sum_j a_j sin(frequency <v_j, z> + phi_j)."""
        v = random.normal(self.features, self.d, z.shape[-1]) / math.sqrt(self.d)
        a = random.normal(self.features, z.shape[-1])
        phase = 2 * math.pi * random.uniform(self.features, 1, z.shape[-1])
        frequency = torch.as_tensor(self.frequency, dtype=z.dtype, device=z.device).reshape(-1, 1, 1, 1)
        angle = frequency * (v.unsqueeze(3) * z.unsqueeze(1)).sum(2) + phase
        return math.sqrt(2 * self.d / self.features) * (a.unsqueeze(2) * torch.sin(angle)).sum(1)


@dataclass(frozen=True, kw_only=True)
class LogisticRegression(Regression):
    """Labels -1 and 1 from a logistic model; methods minimise the logistic risk, and the target is the logit.

    strength: of w*. Labels are random already, so there is no further noise.
    """

    strength: Positive = 1.0

    def check(self) -> None:
        """Check that there is no label noise, and that Sigma^{-1} exists."""
        super().check()
        if self.noise or self.heteroscedastic:
            raise ValueError("noise: logistic labels are random already; leave noise out")
        if self.spectrum is not None and not all(self.spectrum):
            raise ValueError("spectrum: has zeros, so there is no Sigma^{-1} for w* ~ N(0, strength^2 Sigma^{-1})")

    @property
    def facts(self) -> frozenset[Fact]:
        """The facts: the target is linear in x; the risk is not quadratic."""
        return frozenset({"linear", "covariance"})

    def examples(self, random: Random, frame: Tensor | None, prompts: int) -> Examples:
        """Draw prompts with all their examples, through X."""
        law = self.law(random, frame, prompts)
        z, query = self.draw(random, prompts)
        assert law.dual is not None
        w_star = self.strength * apply(law.dual, random.normal(self.d, prompts))
        X = columns(law.root, z)
        probability = torch.sigmoid((X * w_star.unsqueeze(-2)).sum(-3))
        uniform = random.uniform(self.n, prompts)
        y = torch.where(uniform < probability, torch.ones_like(uniform), -torch.ones_like(uniform))
        return Examples(X, y, apply(law.root, query), law, w_star, logistic=True)
