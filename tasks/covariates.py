"""Covariates: what x is drawn from, and what generates w*.

    x = sqrt(variance) U D z        z has mean 0 and covariance I, so Sigma = E x x^T = variance U D^2 U^T

z is Gaussian; uniform on the sphere of radius sqrt(d); uniform on a cube; multivariate Student-t; or has independent
centred gamma (chi-square) entries. Examples of a prompt are independent, or a first-order autoregression. With a mean m
it is z + m u, u = (1, .., 1) / sqrt(d), and Sigma = variance U D (I + m^2 u u^T) D U^T.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Le, Lt
from jaxtyping import Float
from torch import Tensor

from .base import Fact, NonNegative, Random, Task
from .problem import Law

Degrees = Annotated[int, Ge(1), Le(1000)]


@dataclass(frozen=True, kw_only=True)
class Regression(Task):
    """Labels y_i = f(x_i) + noise e_i, e ~ N(0, 1); the target f(x) at the query carries no noise.

    d, n: dimension, and examples in a prompt.
    spectrum: the diagonal of D, d numbers; left out: all ones (isotropic). variance: of all of x.
    rotation: U is drawn once per seed, anew for each prompt, or is the identity; or once per seed as the left
        singular factor of a matrix of uniforms on (-1, 1), as in the paper's code, which is not quite uniform.
    turn: U by so many radians more, in the plane of its first and last column, of its second and last but one, ...
    mean: m.
    noise: standard deviation of the label noise. heteroscedastic: times |z_i| / sqrt(d) of the example.
    covariates: what z is. degrees: of freedom, for student_t (at least 3) and gamma.
    correlation: of an example with the next, in each coordinate of z; the query is independent of the examples.
    tails: t; every z is multiplied by exp(t g - t^2), g ~ N(0, 1), which leaves its covariance and lengthens its tails:
        fourth moments by exp(4 t^2).
    """

    spectrum: tuple[NonNegative, ...] | None = None
    rotation: Literal["per_seed", "per_prompt", "none", "svd"] = "per_seed"
    noise: NonNegative = 0.0
    heteroscedastic: bool = False
    covariates: Literal["gaussian", "sphere", "uniform", "student_t", "gamma"] = "gaussian"
    degrees: Degrees | None = None
    correlation: Annotated[float, Gt(-1), Lt(1)] | None = None
    variance: Annotated[float, Gt(0)] = 1.0
    turn: Annotated[float, Ge(0), Le(math.pi / 2)] = 0.0
    mean: NonNegative | None = None
    tails: NonNegative | None = None

    def check(self) -> None:
        """The spectrum has d entries, not all 0; degrees where they are needed."""
        if self.spectrum is not None and len(self.spectrum) != self.d:
            raise ValueError(f"spectrum: got {len(self.spectrum)} numbers, needs d = {self.d}")
        if self.spectrum is not None and not any(self.spectrum):
            raise ValueError("spectrum: all numbers are 0, so every covariate would be")
        if self.turn and self.rotation == "per_prompt":
            raise ValueError("turn: means nothing where each prompt has a rotation of its own")
        needs = self.covariates in ("student_t", "gamma")
        if needs and self.degrees is None:
            raise ValueError(f"degrees: {self.covariates} covariates need them")
        if not needs and self.degrees is not None:
            raise ValueError(f"degrees: {self.covariates} covariates have none; student_t and gamma do")
        if self.covariates == "student_t" and (self.degrees or 0) < 3:
            raise ValueError(f"degrees: got {self.degrees}; below 3 a Student-t has no variance")

    @property
    def facts(self) -> frozenset[Fact]:
        """A quadratic risk; where its spectrum ends, if tails are light and about 0; Sigma^{-1}, unless D has zeros."""
        invertible = self.spectrum is None or all(self.spectrum)
        edges, covariance = (
            ("edges",) if self.mean is None and self.tails is None else (),
            ("covariance",) if invertible else (),
        )
        return frozenset({"quadratic", *edges, *covariance})

    def frame(self, random: Random) -> Tensor | None:
        """U: streams d d; None where each prompt has its own."""
        if self.rotation == "per_prompt":
            return None
        if self.rotation == "svd":
            factors: Tensor = torch.linalg.svd(2 * random.uniform(self.d, self.d, 1).squeeze(-1) - 1)[0]
            return factors @ self._turned(factors)
        U = haar(random, self.d, 1).squeeze(-1)
        U = U if self.rotation == "per_seed" else torch.eye(self.d).to(U).expand_as(U)
        return U @ self._turned(U)

    def _turned(self, U: Tensor) -> Float[Tensor, "streams d d"]:
        """A rotation in the planes of first and last coordinate, second and last but one, ..."""
        angle = torch.as_tensor(self.turn, dtype=U.dtype, device=U.device).reshape(-1).expand(len(U))
        R = torch.eye(self.d).to(U).repeat(len(U), 1, 1)
        for i in range(self.d // 2):
            j = self.d - 1 - i
            R[:, i, i] = R[:, j, j] = angle.cos()
            R[:, i, j], R[:, j, i] = -angle.sin(), angle.sin()
        return R

    def law(self, random: Random, frame: Tensor | None, prompts: int) -> Law:
        """Of all prompts or of each: U D, U D^{-1}, and where the spectrum of G ends."""
        law = self._centred(random, frame, prompts)
        if self.mean is None:
            return law
        along = law.root.sum(2, keepdim=True) / self.d  # root u u^T has this in every column
        root, dual = law.root + (self._long(law.root) - 1) * along, law.dual
        if dual is not None:
            dual = dual + (1 / self._long(dual) - 1) * dual.sum(2, keepdim=True) / self.d
        return replace(law, root=root, dual=dual)

    def _long(self, like: Tensor) -> Tensor:
        """The root of the mean square of <u, z>, streams 1 1 1."""
        m = torch.as_tensor(self.mean, dtype=like.dtype, device=like.device).reshape(-1, 1, 1, 1)
        return (1 + m * m).sqrt()

    def _centred(self, random: Random, frame: Tensor | None, prompts: int) -> Law:
        """The law without a mean."""
        U = haar(random, self.d, prompts) if frame is None else frame.unsqueeze(-1)
        reach = math.sqrt(self.d / self.n)
        low, high = (1 - reach) ** 2, (1 + reach) ** 2
        white = torch.tensor([max(low, 1e-3 * high), high], dtype=U.dtype, device=U.device).expand(len(U), 2)
        size = torch.as_tensor(self.variance, dtype=U.dtype, device=U.device).reshape(-1, 1, 1, 1)
        if self.spectrum is None:
            root = U * size.sqrt()
            return Law(root=root, dual=U / size.sqrt(), edges=white * size[:, :, 0, 0], white=white)
        D = torch.as_tensor(self.spectrum, dtype=U.dtype, device=U.device).expand(len(U), self.d)
        D = D * size[:, :, 0, 0].sqrt()
        wide, square = D[:, None, :, None], D.square().unbind(-1)
        ends = torch.stack([functools.reduce(f, square) for f in (torch.minimum, torch.maximum)], -1)
        return Law(root=U * wide, dual=U / wide, edges=white * ends, white=white)

    def draw(
        self, random: Random, prompts: int
    ) -> tuple[Float[Tensor, "streams d n prompts"], Float[Tensor, "streams d prompts"]]:
        """z of the examples and of the query, with second moment I: where there is a mean, what D U^T is applied to
        has been divided by its root.
        """
        d, n = self.d, self.n
        match self.covariates:
            case "gamma":
                assert self.degrees
                chi = random.chi([self.degrees] * (d * (n + 1)), prompts)
                z = (chi.square() - self.degrees) / math.sqrt(2 * self.degrees)
                z = z.view(len(z), d, n + 1, prompts)
            case "uniform":
                z = math.sqrt(12) * (random.uniform(d, n + 1, prompts) - 0.5)
            case _:
                z = random.normal(d, n + 1, prompts)
        if self.covariates == "sphere":
            z = z * (math.sqrt(d) / z.square().sum(1, keepdim=True).sqrt())
        if self.covariates == "student_t":
            assert self.degrees
            chi = random.chi([self.degrees] * (n + 1), prompts)
            z = z * (math.sqrt(self.degrees - 2) / chi).unsqueeze(1)
        if self.tails is not None:
            t = torch.as_tensor(self.tails, dtype=z.dtype, device=z.device).reshape(-1, 1, 1, 1)
            z = z * torch.exp(t * random.normal(1, n + 1, prompts) - t * t)
        examples = z[:, :, :n]
        if self.correlation is not None:
            rho = self.correlation
            fresh = (1 - rho * rho) ** 0.5
            chain = [examples[:, :, 0]]
            for i in range(1, n):
                chain.append(rho * chain[-1] + fresh * examples[:, :, i])
            examples = torch.stack(chain, 2)
        query = z[:, :, n]
        if self.mean is not None:
            long = self._long(z)
            examples, query = (
                v + (1 / long - 1) * v.sum(1, keepdim=True) / d + (1 - 1 / long**2).sqrt() / math.sqrt(d)
                for v in (examples, query.unsqueeze(2))
            )
            query = query.squeeze(2)
        return examples, query

    def error(self, random: Random, z: Float[Tensor, "streams d n prompts"]) -> Float[Tensor, "streams n prompts"]:
        """The labels' noise."""
        e = self.noise * random.normal(*z.shape[2:])
        return e * (z.square().sum(1) / self.d).sqrt() if self.heteroscedastic else e


def columns(root: Tensor, M: Float[Tensor, "streams d k prompts"]) -> Float[Tensor, "streams d k prompts"]:
    """root M."""
    return (root.unsqueeze(-2) * M.unsqueeze(1)).sum(2)


def haar(random: Random, d: int, prompts: int) -> Float[Tensor, "streams d d prompts"]:
    """Rotations and reflections, uniform on O(d): a product of Householder reflections (Stewart, 1980).

    If Q is uniform on O(m - 1) and M(x) e_1 = x / |x| for a Gaussian x, then M(x) diag(1, Q) is uniform on O(m).
    """
    Q = _sign(random.normal(1, 1, prompts))
    for m in range(2, d + 1):
        v = random.normal(m, prompts)
        sign = _sign(v[:, :1])
        v = torch.cat([v[:, :1] + sign * v.norm(dim=1, keepdim=True), v[:, 1:]], 1)
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
