"""The best linear first-order method with fixed coefficients: a bound, in closed form.

After k steps any method whose steps are fixed linear combinations of gradients has

    w_k = q_k(G) b      q_k a polynomial of degree k - 1, the same for every prompt

The error at the query is affine in w, so the mean squared error is a quadratic form in the coefficients of q_k, and
its least value solves one k x k linear system. Gradient descent, heavy ball, Nesterov, Chebyshev, a linear
transformer or a Memformer with scalar preconditioner: none of them has a lower mean error.

With the covariates' covariance known, Sigma^{-1} G takes the place of G and Sigma^{-1} b of b. This is the bound for
preconditioners c_l Sigma^{-1}, and the reference for any full preconditioner: trained models reach it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from .algebra import conditioner
from .base import FittedBound, Known, Params, Problem, Residual, Span


@dataclass(frozen=True, kw_only=True)
class BestLfom(FittedBound):
    """Polynomials q_k of least error. preconditioner: identity (scalar methods) or covariance (known Sigma^{-1})."""

    preconditioner: Known

    @property
    def needs(self) -> frozenset[str]:
        """A quadratic risk, and Sigma^{-1} where it is the preconditioner."""
        return frozenset({"quadratic"} | ({"covariance"} if self.preconditioner == "covariance" else set()))

    @property
    def span(self) -> Span:
        """A Krylov space with fixed coefficients, as that of the methods that it bounds."""
        return Span(self.preconditioner, fixed=True)

    def moments(self, params: Params, problem: Problem, residual: Residual) -> Params:
        """H: jobs depth depth, h: jobs depth. The error at q is <q, H q> + 2 <h, q> + a term without q."""
        # columns r_i = residual along the Krylov vector G^i b; residual(sum q_i G^i b) = r + sum q_i r_i
        r = residual(problem.start())
        columns = torch.stack([residual(v) - r for v in self._krylov(problem)], -3)  # jobs depth k prompts
        H = (columns.unsqueeze(-3) * columns.unsqueeze(-4)).sum((-2, -1))
        return {"H": H, "h": (columns * r.unsqueeze(-3)).sum((-2, -1))}

    def fit(self, moments: Params) -> Params:
        """q: jobs depth depth, with the coefficients of q_k in row k - 1."""
        H, h = moments["H"], moments["h"]
        q = torch.zeros_like(H)
        for k in range(1, self.depth + 1):
            scale = H[..., :k, :k].diagonal(dim1=-2, dim2=-1).rsqrt()
            scaled = scale.unsqueeze(-1) * H[..., :k, :k] * scale.unsqueeze(-2)
            q[..., k - 1, :k] = -scale * torch.linalg.solve(scaled, scale * h[..., :k])
        return {"q": q}

    def risk(self, params: Params, moments: Params) -> Float[Tensor, "*jobs depth"]:
        """The error of every q_k without the term that no q changes: <q_k, H q_k> + 2 <h, q_k>."""
        q, H, h = params["q"], moments["H"], moments["h"]
        return (q * (q @ H + 2 * h.unsqueeze(-2))).sum(-1)

    def iterates(self, params: Params, problem: Problem) -> Iterator[Float[Tensor, "*jobs d prompts"]]:
        """Yield w_0 .. w_depth."""
        yield problem.start()
        krylov = torch.stack(list(self._krylov(problem)), -3)  # jobs depth d prompts
        for k in range(self.depth):
            yield (params["q"][..., k, :, None, None] * krylov).sum(-3)

    def _krylov(self, problem: Problem) -> Iterator[Tensor]:
        """Yield b, G b, G^2 b, ..., preconditioned throughout."""
        M = conditioner(self.preconditioner, problem)
        v = M(-problem.gradient(problem.start()))
        for _ in range(self.depth):
            yield v
            v = M(problem.curvature(v))
