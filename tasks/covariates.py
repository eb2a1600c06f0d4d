"""Distributions of the covariates x, and the covariance Sigma from which teachers are drawn.

    x = sqrt(variance) U D z        z has mean 0 and covariance I, so Sigma = E x x^T = variance U D^2 U^T

z is Gaussian; uniform on the sphere of radius sqrt(d); uniform on a cube; multivariate Student-t; or has independent
centred gamma (chi-square) entries. The examples of a prompt are independent, or a first-order autoregression. With a
mean m, z + m u takes the place of z, u = (1, .., 1) / sqrt(d), and Sigma = variance U D (I + m^2 u u^T) D U^T.
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

    d, n: dimension, and number of examples in a prompt.
    spectrum: the diagonal of D, d numbers; by default all ones (isotropic). variance: a factor on the covariance of x.
    rotation: U is drawn once per seed, anew for each prompt, or is the identity (none); svd: once per seed, as the left
        singular factor of a matrix of uniforms on (-1, 1), as in the paper's code, which is not exactly uniform.
    turn: rotates U further by this angle in radians, in the plane of its first and last column, of its second and last
        but one, ...
    mean: m.
    noise: standard deviation of the label noise. heteroscedastic: times |z_i| / sqrt(d) of the example.
    covariates: the distribution of z. degrees: degrees of freedom, for student_t (at least 3) and gamma.
    correlation: of an example with the next, in each coordinate of z; the query is independent of the examples.
    tails: t; every z is multiplied by exp(t g - t^2), g ~ N(0, 1), which keeps its covariance and makes its tails
        heavier: fourth moments grow by exp(4 t^2).
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
        """Check that the spectrum has d entries, not all 0, and that degrees are given where they are needed."""
        if self.spectrum is not None and len(self.spectrum) != self.d:
            raise ValueError(f"spectrum: got {len(self.spectrum)} numbers, needs d = {self.d}")
        if self.spectrum is not None and not any(self.spectrum):
            raise ValueError("spectrum: all numbers are 0, so every covariate would be 0")
        if self.turn and self.rotation == "per_prompt":
            raise ValueError("turn: means nothing where each prompt has its own rotation")
        needs = self.covariates in ("student_t", "gamma")
        if needs and self.degrees is None:
            raise ValueError(f"degrees: {self.covariates} covariates need them")
        if not needs and self.degrees is not None:
            raise ValueError(f"degrees: {self.covariates} covariates have none; student_t and gamma do")
        if self.covariates == "student_t" and (self.degrees or 0) < 3:
            raise ValueError(f"degrees: got {self.degrees}; below 3 a Student-t has no variance")

    @property
    def facts(self) -> frozenset[Fact]:
        """A quadratic risk; the ends of its spectrum without mean and tails; Sigma^{-1}, unless D has zeros."""
        invertible = self.spectrum is None or all(self.spectrum)
        edges, covariance = (
            ("edges",) if self.mean is None and self.tails is None else (),
            ("covariance",) if invertible else (),
        )
        return frozenset({"quadratic", *edges, *covariance})

    def frame(self, random: Random) -> Tensor | None:
        """Draw U, `streams d d`; None where each prompt has its own."""
        if self.rotation == "per_prompt":
            return None
        if self.rotation == "svd":
            factors: Tensor = torch.linalg.svd(2 * random.uniform(self.d, self.d, 1).squeeze(-1) - 1)[0]
            return factors @ self._turn_matrix(factors)
        U = haar(random, self.d, 1).squeeze(-1)
        U = U if self.rotation == "per_seed" else torch.eye(self.d).to(U).expand_as(U)
        return U @ self._turn_matrix(U)

    def _turn_matrix(self, U: Tensor) -> Float[Tensor, "streams d d"]:
        """The rotation by `turn` in the planes of the first and last coordinate, the second and last but one, ..."""
        angle = torch.as_tensor(self.turn, dtype=U.dtype, device=U.device).reshape(-1).expand(len(U))
        R = torch.eye(self.d).to(U).repeat(len(U), 1, 1)
        for i in range(self.d // 2):
            j = self.d - 1 - i
            R[:, i, i] = R[:, j, j] = angle.cos()
            R[:, i, j], R[:, j, i] = -angle.sin(), angle.sin()
        return R

    def law(self, random: Random, frame: Tensor | None, prompts: int) -> Law:
        """The law of the covariates, of all prompts or of each: U D, U D^{-1}, and the ends of the spectrum of G."""
        law = self._centred(random, frame, prompts)
        if self.mean is None:
            return law
        column = law.root.sum(2, keepdim=True) / self.d  # root u u^T has this in every column
        root, dual = law.root + (self._mean_scale(law.root) - 1) * column, law.dual
        if dual is not None:
            dual = dual + (1 / self._mean_scale(dual) - 1) * dual.sum(2, keepdim=True) / self.d
        return replace(law, root=root, dual=dual)

    def _mean_scale(self, like: Tensor) -> Tensor:
        """The root mean square of <u, z>, sqrt(1 + m^2), `streams 1 1 1`."""
        m = torch.as_tensor(self.mean, dtype=like.dtype, device=like.device).reshape(-1, 1, 1, 1)
        return (1 + m * m).sqrt()

    def _centred(self, random: Random, frame: Tensor | None, prompts: int) -> Law:
        """The law of covariates with mean 0."""
        U = haar(random, self.d, prompts) if frame is None else frame.unsqueeze(-1)
        root_ratio = math.sqrt(self.d / self.n)
        low, high = (1 - root_ratio) ** 2, (1 + root_ratio) ** 2
        white = torch.tensor([max(low, 1e-3 * high), high], dtype=U.dtype, device=U.device).expand(len(U), 2)
        variance = torch.as_tensor(self.variance, dtype=U.dtype, device=U.device).reshape(-1, 1, 1, 1)
        if self.spectrum is None:
            root = U * variance.sqrt()
            return Law(root=root, dual=U / variance.sqrt(), edges=white * variance[:, :, 0, 0], white=white)
        D = torch.as_tensor(self.spectrum, dtype=U.dtype, device=U.device).expand(len(U), self.d)
        D = D * variance[:, :, 0, 0].sqrt()
        scale, eigenvalues = D[:, None, :, None], D.square().unbind(-1)
        extremes = torch.stack([functools.reduce(f, eigenvalues) for f in (torch.minimum, torch.maximum)], -1)
        return Law(root=U * scale, dual=U / scale, edges=white * extremes, white=white)

    def draw(
        self, random: Random, prompts: int
    ) -> tuple[Float[Tensor, "streams d n prompts"], Float[Tensor, "streams d prompts"]]:
        """Draw z of the examples and of the query, with second moment I. With a mean this is
        (I + m^2 u u^T)^{-1/2} (z + m u), because the law's root holds the other factor.
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
            innovation = (1 - rho * rho) ** 0.5
            chain = [examples[:, :, 0]]
            for i in range(1, n):
                chain.append(rho * chain[-1] + innovation * examples[:, :, i])
            examples = torch.stack(chain, 2)
        query = z[:, :, n]
        if self.mean is not None:
            mean_scale = self._mean_scale(z)
            examples, query = (
                v + (1 / mean_scale - 1) * v.sum(1, keepdim=True) / d + (1 - 1 / mean_scale**2).sqrt() / math.sqrt(d)
                for v in (examples, query.unsqueeze(2))
            )
            query = query.squeeze(2)
        return examples, query

    def error(self, random: Random, z: Float[Tensor, "streams d n prompts"]) -> Float[Tensor, "streams n prompts"]:
        """Draw the noise of the labels."""
        e = self.noise * random.normal(*z.shape[2:])
        return e * (z.square().sum(1) / self.d).sqrt() if self.heteroscedastic else e


def columns(root: Tensor, M: Float[Tensor, "streams m k prompts"]) -> Float[Tensor, "streams d k prompts"]:
    """The product root M: a square root of the covariance applied to every column of M."""
    return (root.unsqueeze(-2) * M.unsqueeze(1)).sum(2)


def haar(random: Random, d: int, prompts: int) -> Float[Tensor, "streams d d prompts"]:
    """Draw rotations and reflections, uniform on O(d), as products of Householder reflections (Stewart, 1980).

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
        projection = (v.unsqueeze(2) * B).sum(1, keepdim=True)  # v^T B
        reflected = B - 2 * v.unsqueeze(2) * projection / v.square().sum(1)[:, None, None]
        Q = -sign.unsqueeze(2) * reflected
    return Q


def _sign(x: Tensor) -> Tensor:
    """The sign of x, -1 or 1, never 0."""
    return torch.where(x < 0, -torch.ones_like(x), torch.ones_like(x))
