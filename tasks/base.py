"""What a task is: a distribution of prompts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol, runtime_checkable

from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor

from .prompts import Examples, Prompts

Dimension = Annotated[int, Ge(1), Le(10_000)]
Count = Annotated[int, Ge(1), Le(1_000_000)]
NonNegative = Annotated[float, Ge(0)]

# What a solver may need of a task. quadratic: a risk whose Hessian is the same everywhere. covariance: Sigma^{-1} is
# known. linear: a w* generates the target, and queries are integrated out. edges: where the spectrum of G ends.
# prior: the teacher's covariance and the noise are known. bayes: both are Gaussian, so that ridge is the best estimate.
# statistics: (G, b) is drawn without X.
Fact = Literal["quadratic", "covariance", "linear", "edges", "prior", "bayes", "statistics"]


@runtime_checkable
class Random(Protocol):
    """Independent random streams side by side; every draw has `streams` as its first axis."""

    def normal(self, *shape: int) -> Float[Tensor, "streams ..."]:
        """Standard normals."""

    def uniform(self, *shape: int) -> Float[Tensor, "streams ..."]:
        """Uniforms on (0, 1)."""

    def chi(self, degrees: list[int], prompts: int) -> Float[Tensor, "streams degrees prompts"]:
        """A row per entry of `degrees`, the root of a chi-square variate with so many degrees of freedom."""


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """A distribution of prompts. Float fields may hold one value, or a tensor with one entry per packed stream:
    `streams 1 1` for a float, `streams k` for k floats; so write them with broadcasting.
    """

    d: Dimension
    n: Count

    def check(self) -> None:
        """Raise ValueError, naming the field, where fields do not fit each other."""

    @property
    def facts(self) -> frozenset[Fact]:
        """What solvers can count on. As a default, what `Examples` with a w_star and a law's root and dual give."""
        return frozenset({"quadratic", "linear", "covariance"})

    def frame(self, random: Random) -> Tensor | None:
        """What a seed fixes for all its prompts, such as a rotation."""
        return None

    @abstractmethod
    def examples(self, random: Random, frame: Tensor | None, prompts: int) -> Examples:
        """Draw prompts in full."""

    def prompts(self, random: Random, frame: Tensor | None, prompts: int) -> Prompts:
        """Draw prompts as a risk, with exact queries where they can be. Override it where there is a shorter way
        than through X.
        """
        return self.examples(random, frame, prompts).prompts(sampled_query=False)
