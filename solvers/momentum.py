"""Methods with momentum, preconditioned or not.

Heavy ball (Polyak, 1964):   w_{k+1} = w_k - eta M grad R(w_k) + beta (w_k - w_{k-1})
Nesterov (1983):             w_{k+1} = y_k - eta M grad R(y_k)        y_k = w_k + beta (w_k - w_{k-1})

By theory, with mu and L where the spectrum of M G ends: heavy ball eta = 4 / (sqrt L + sqrt mu)^2 and
beta = ((sqrt L - sqrt mu) / (sqrt L + sqrt mu))^2; Nesterov eta = 1 / L and the root of that beta.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from .algebra import Coefficient, Preconditioner, coefficient, coefficients, conditioned, known, needs, trained
from .base import Method, Normal, Params, Problem, Span


@dataclass(frozen=True, kw_only=True)
class Momentum(Method):
    """step: eta; momentum: beta; each a number, `theory`, `tuned` by the protocol, or tuned `per_layer`.

    preconditioner: M, the identity, Sigma^{-1} (covariance), or 1 over the diagonal of G (jacobi).
    """

    step: Coefficient
    momentum: Coefficient
    preconditioner: Preconditioner = "identity"

    @property
    def family(self) -> Literal["classical", "learned"]:  # type: ignore[override]  # a property where others have a constant
        """Classical with given coefficients, else learned."""
        return "learned" if trained(self.step, self.momentum) else "classical"

    @property
    def needs(self) -> frozenset[str]:
        """As coefficients and preconditioner say."""
        return needs(self.preconditioner, self.step, self.momentum)

    @property
    def span(self) -> Span | None:
        """Fixed coefficients."""
        where = known(self.preconditioner)
        return where and Span(where, fixed=True)

    def check(self, d: int, n: int) -> None:
        """Nothing is known of the spectrum under Jacobi's preconditioner."""
        for name in ("step", "momentum"):
            if self.preconditioner == "jacobi" and getattr(self, name) == "theory":
                raise ValueError(f"{name}: no theory for preconditioner jacobi; say tuned, or a number")

    def init(self, d: int, n: int, normal: Normal) -> Params:
        """step, momentum: jobs 1 or jobs depth (the first momentum meets no past), where they are trained."""
        past = {"momentum": self.momentum} if self.depth > 1 else {}
        return coefficients(self.depth, normal, step=self.step) | coefficients(self.depth - 1, normal, **past)

    def iterates(self, params: Params, problem: Problem) -> Iterator[Float[Tensor, "*jobs d prompts"]]:
        """w_0 .. w_depth."""
        theory: tuple[Tensor | float, Tensor | float] = (0.0, 0.0)
        if "theory" in (self.step, self.momentum):
            theory = self.theory(*problem.interval(known(self.preconditioner) or "identity"))
        w = before = problem.start()
        yield w
        for l in range(self.depth):
            eta = coefficient(self.step, "step", params, l, theory[0])
            beta = coefficient(self.momentum, "momentum", params, l - 1, theory[1]) if l else 0.0
            ahead = w + beta * (w - before) if l else w
            g = conditioned(self.preconditioner, problem, problem.gradient(self.look(w, ahead)))
            w, before = ahead - eta * g, w
            yield w

    @abstractmethod
    def look(self, w: Tensor, ahead: Tensor) -> Tensor:
        """Where the gradient is taken."""

    @abstractmethod
    def theory(self, mu: Tensor, L: Tensor) -> tuple[Tensor, Tensor]:
        """eta and beta."""


@dataclass(frozen=True, kw_only=True)
class HeavyBall(Momentum):
    """Heavy ball (Polyak, 1964): the gradient is taken where the ball is."""

    def look(self, w: Tensor, ahead: Tensor) -> Tensor:
        """w_k."""
        return w

    def theory(self, mu: Tensor, L: Tensor) -> tuple[Tensor, Tensor]:
        """4 / (sqrt L + sqrt mu)^2 and ((sqrt L - sqrt mu) / (sqrt L + sqrt mu))^2."""
        total = L.sqrt() + mu.sqrt()
        return 4 / total.square(), ((L.sqrt() - mu.sqrt()) / total).square()


@dataclass(frozen=True, kw_only=True)
class Nesterov(Momentum):
    """Nesterov's method (1983): the gradient is taken where the momentum leads."""

    def look(self, w: Tensor, ahead: Tensor) -> Tensor:
        """y_k."""
        return ahead

    def theory(self, mu: Tensor, L: Tensor) -> tuple[Tensor, Tensor]:
        """1 / L and (sqrt L - sqrt mu) / (sqrt L + sqrt mu)."""
        return 1 / L, (L.sqrt() - mu.sqrt()) / (L.sqrt() + mu.sqrt())
