"""Chebyshev semi-iteration (Golub & Varga, 1961), preconditioned or not: the best fixed steps for an interval.

    w_{k+1} = omega_{k+1} (w_k - eta M grad R(w_k)) + (1 - omega_{k+1}) w_{k-1}
    eta = 2 / (mu + L)     rho = ((L - mu) / (L + mu))^2
    omega_1 = 1     omega_2 = 1 / (1 - rho / 2)     omega_{k+1} = 1 / (1 - rho omega_k / 4)

Of all methods with fixed coefficients, its residual polynomial has the smallest maximum on [mu, L].
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Gt
from jaxtyping import Float
from torch import Tensor

from .algebra import Preconditioner, conditioner, known, needs
from .base import Method, Normal, Params, Problem, Span

End = Annotated[float, Gt(0)]


@dataclass(frozen=True, kw_only=True)
class Chebyshev(Method):
    """Chebyshev semi-iteration on an interval.

    interval: [mu, L]; `theory`, the ends of the spectrum of M G; or `tuned`, eta and rho trained by the protocol.
    preconditioner: M, the identity, Sigma^{-1} (covariance), or 1 over the diagonal of G (jacobi).
    """

    interval: tuple[End, End] | Literal["theory", "tuned"]
    preconditioner: Preconditioner = "identity"

    @property
    def family(self) -> Literal["classical", "learned"]:  # type: ignore[override]  # a property where others have a constant
        """Classical with an interval given or from theory, else learned."""
        return "learned" if self.interval == "tuned" else "classical"

    @property
    def needs(self) -> frozenset[str]:
        """The facts that interval and preconditioner need."""
        return needs(self.preconditioner, self.interval)

    @property
    def span(self) -> Span | None:
        """The preconditioner's Krylov space, with fixed coefficients; None for jacobi."""
        where = known(self.preconditioner)
        return where and Span(where, fixed=True)

    def check(self, d: int, n: int) -> None:
        """Check that mu < L, and that no theory is asked for jacobi, under which the spectrum is not known."""
        if isinstance(self.interval, tuple) and self.interval[0] >= self.interval[1]:
            raise ValueError(f"interval: got {list(self.interval)}, needs mu < L")
        if self.preconditioner == "jacobi" and self.interval == "theory":
            raise ValueError("interval: no theory for preconditioner jacobi; say tuned, or two numbers")

    def init(self, d: int, n: int, normal: Normal) -> Params:
        """Initial eta and rho, jobs 1 each, where they are trained."""
        return {"eta": normal(1), "rho": normal(1)} if self.interval == "tuned" else {}

    def iterates(self, params: Params, problem: Problem) -> Iterator[Float[Tensor, "*jobs d prompts"]]:
        """Yield w_0 .. w_depth."""
        eta, rho = self._constants(params, problem)
        w = w_old = problem.start()
        M = conditioner(self.preconditioner, problem)
        omega: Tensor | float = 1.0
        yield w
        for k in range(self.depth):
            if k:
                omega = 1 / (1 - rho / 2) if k == 1 else 1 / (1 - rho * omega / 4)
            step = w - eta * M(problem.gradient(w))
            w, w_old = omega * step + (1 - omega) * w_old, w
            yield w

    def _constants(self, params: Params, problem: Problem) -> tuple[Tensor, Tensor]:
        if self.interval == "tuned":
            return params["eta"].unsqueeze(-1), params["rho"].unsqueeze(-1)
        if self.interval == "theory":
            mu, L = problem.interval(known(self.preconditioner) or "identity")
        else:
            ends = problem.start().new_tensor(self.interval) if isinstance(self.interval, tuple) else self.interval
            assert isinstance(ends, Tensor)  # floats of a packed solver are tensors: jobs 2
            mu, L = ends[..., 0, None, None], ends[..., 1, None, None]
        return 2 / (mu + L), ((L - mu) / (L + mu)).square()
