"""Chebyshev semi-iteration (Golub & Varga, 1961), preconditioned or not: the best fixed steps for an interval.

    w_{k+1} = omega_{k+1} (w_k - eta M grad R(w_k)) + (1 - omega_{k+1}) w_{k-1}
    eta = 2 / (mu + L)     rho = ((L - mu) / (L + mu))^2
    omega_1 = 1     omega_2 = 1 / (1 - rho / 2)     omega_{k+1} = 1 / (1 - rho omega_k / 4)

Of all methods with fixed coefficients it has the least largest residual polynomial on [mu, L].
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Gt
from jaxtyping import Float
from torch import Tensor

from .algebra import Preconditioner, conditioned, known, needs
from .base import Method, Normal, Params, Problem, Span

End = Annotated[float, Gt(0)]


@dataclass(frozen=True, kw_only=True)
class Chebyshev(Method):
    """interval: [mu, L]; by `theory`, where the spectrum of M G ends; or `tuned`, eta and rho trained by the protocol.

    preconditioner: M, the identity, Sigma^{-1} (covariance), or 1 over the diagonal of G (jacobi).
    """

    interval: tuple[End, End] | Literal["theory", "tuned"]
    preconditioner: Preconditioner = "identity"

    @property
    def family(self) -> Literal["classical", "learned"]:  # type: ignore[override]  # a property where others have a constant
        """Classical with a given interval, else learned."""
        return "learned" if self.interval == "tuned" else "classical"

    @property
    def needs(self) -> frozenset[str]:
        """As interval and preconditioner say."""
        return needs(self.preconditioner, self.interval)

    @property
    def span(self) -> Span | None:
        """Fixed coefficients."""
        where = known(self.preconditioner)
        return where and Span(where, fixed=True)

    def check(self, d: int, n: int) -> None:
        """mu < L; nothing is known of the spectrum under Jacobi's preconditioner."""
        if isinstance(self.interval, tuple) and self.interval[0] >= self.interval[1]:
            raise ValueError(f"interval: got {list(self.interval)}, needs mu < L")
        if self.preconditioner == "jacobi" and self.interval == "theory":
            raise ValueError("interval: no theory for preconditioner jacobi; say tuned, or two numbers")

    def init(self, d: int, n: int, normal: Normal) -> Params:
        """eta and rho: jobs 1, where they are trained."""
        return {"eta": normal(1), "rho": normal(1)} if self.interval == "tuned" else {}

    def iterates(self, params: Params, problem: Problem) -> Iterator[Float[Tensor, "*jobs d prompts"]]:
        """w_0 .. w_depth."""
        eta, rho = self._constants(params, problem)
        w = before = problem.start()
        omega: Tensor | float = 1.0
        yield w
        for k in range(self.depth):
            if k:
                omega = 1 / (1 - rho / 2) if k == 1 else 1 / (1 - rho * omega / 4)
            step = w - eta * conditioned(self.preconditioner, problem, problem.gradient(w))
            w, before = omega * step + (1 - omega) * before, w
            yield w

    def _constants(self, params: Params, problem: Problem) -> tuple[Tensor, Tensor]:
        if self.interval == "tuned":
            return params["eta"].unsqueeze(-1), params["rho"].unsqueeze(-1)
        if self.interval == "theory":
            mu, L = problem.interval(known(self.preconditioner) or "identity")
        else:
            given = problem.start().new_tensor(self.interval) if isinstance(self.interval, tuple) else self.interval
            assert isinstance(given, Tensor)  # floats of a packed solver are tensors: jobs 2
            mu, L = given[..., 0, None, None], given[..., 1, None, None]
        return 2 / (mu + L), ((L - mu) / (L + mu)).square()
