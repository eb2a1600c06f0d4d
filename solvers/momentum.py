"""Methods with momentum, preconditioned or not.

Heavy ball (Polyak, 1964):   w_{k+1} = w_k - eta M grad R(w_k) + beta (w_k - w_{k-1})
Nesterov (1983):             w_{k+1} = y_k - eta M grad R(y_k)        y_k = w_k + beta (w_k - w_{k-1})

By theory, with mu and L the ends of the spectrum of M G: heavy ball eta = 4 / (sqrt L + sqrt mu)^2 and
beta = ((sqrt L - sqrt mu) / (sqrt L + sqrt mu))^2; Nesterov eta = 1 / L and the square root of that beta.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from .algebra import Coefficient, Preconditioner, coefficient, coefficients, conditioner, known, needs, trained
from .base import Method, Normal, Params, Problem, Span


@dataclass(frozen=True, kw_only=True)
class Momentum(Method):
    """A method with a step size and momentum that are given or trained.

    step: eta; momentum: beta; each a number, `theory`, `tuned` by the protocol, or tuned `per_layer`.
    preconditioner: M, the identity, Sigma^{-1} (covariance), or 1 over the diagonal of G (jacobi).
    """

    step: Coefficient
    momentum: Coefficient
    preconditioner: Preconditioner = "identity"

    @property
    def family(self) -> Literal["classical", "learned"]:  # type: ignore[override]  # a property where others have a constant
        """Classical with coefficients given or from theory, else learned."""
        return "learned" if trained(self.step, self.momentum) else "classical"

    @property
    def needs(self) -> frozenset[str]:
        """The facts that coefficients and preconditioner need."""
        return needs(self.preconditioner, self.step, self.momentum)

    @property
    def span(self) -> Span | None:
        """The preconditioner's Krylov space, with fixed coefficients; None for jacobi."""
        where = known(self.preconditioner)
        return where and Span(where, fixed=True)

    def check(self, d: int, n: int) -> None:
        """Check that no theory is asked for jacobi, under which the spectrum is not known."""
        for name in ("step", "momentum"):
            if self.preconditioner == "jacobi" and getattr(self, name) == "theory":
                raise ValueError(f"{name}: no theory for preconditioner jacobi; say tuned, or a number")

    def init(self, d: int, n: int, normal: Normal) -> Params:
        """Initial step and momentum, jobs 1 or jobs depth (momentum: depth - 1, none in step 1), where trained."""
        past = {"momentum": self.momentum} if self.depth > 1 else {}
        return coefficients(self.depth, normal, step=self.step) | coefficients(self.depth - 1, normal, **past)

    def iterates(self, params: Params, problem: Problem) -> Iterator[Float[Tensor, "*jobs d prompts"]]:
        """Yield w_0 .. w_depth."""
        theory: tuple[Tensor | float, Tensor | float] = (0.0, 0.0)
        if "theory" in (self.step, self.momentum):
            theory = self.theory(*problem.interval(known(self.preconditioner) or "identity"))
        w = w_old = problem.start()
        M = conditioner(self.preconditioner, problem)
        yield w
        for l in range(self.depth):
            eta = coefficient(self.step, "step", params, l, theory[0])
            beta = coefficient(self.momentum, "momentum", params, l - 1, theory[1]) if l else 0.0
            extrapolated = w + beta * (w - w_old) if l else w
            g = M(problem.gradient(self.gradient_point(w, extrapolated)))
            w, w_old = extrapolated - eta * g, w
            yield w

    @abstractmethod
    def gradient_point(self, w: Tensor, extrapolated: Tensor) -> Tensor:
        """The point at which the gradient is taken, from w_k and the extrapolated y_k."""

    @abstractmethod
    def theory(self, mu: Tensor, L: Tensor) -> tuple[Tensor, Tensor]:
        """The textbook coefficients eta and beta for a spectrum from mu to L."""


@dataclass(frozen=True, kw_only=True)
class HeavyBall(Momentum):
    """Heavy ball (Polyak, 1964): the gradient is taken at the current iterate."""

    def gradient_point(self, w: Tensor, extrapolated: Tensor) -> Tensor:
        """The point w_k."""
        return w

    def theory(self, mu: Tensor, L: Tensor) -> tuple[Tensor, Tensor]:
        """eta = 4 / (sqrt L + sqrt mu)^2 and beta = ((sqrt L - sqrt mu) / (sqrt L + sqrt mu))^2."""
        total = L.sqrt() + mu.sqrt()
        return 4 / total.square(), ((L.sqrt() - mu.sqrt()) / total).square()


@dataclass(frozen=True, kw_only=True)
class Nesterov(Momentum):
    """Nesterov's method (1983): the gradient is taken at the extrapolated point."""

    def gradient_point(self, w: Tensor, extrapolated: Tensor) -> Tensor:
        """The extrapolated point y_k."""
        return extrapolated

    def theory(self, mu: Tensor, L: Tensor) -> tuple[Tensor, Tensor]:
        """eta = 1 / L and beta = (sqrt L - sqrt mu) / (sqrt L + sqrt mu)."""
        return 1 / L, (L.sqrt() - mu.sqrt()) / (L.sqrt() + mu.sqrt())
