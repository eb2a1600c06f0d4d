"""The interface of a task: a distribution of prompts."""

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

# What a solver may need of a task. quadratic: the Hessian of the risk is the same everywhere. covariance: Sigma^{-1} is
# known. linear: a vector w* generates the target, and queries are integrated out. edges: the ends of the spectrum of G
# are known. prior: the teacher's covariance and the noise are known. bayes: both are Gaussian, so ridge is the best
# estimate. statistics: (G, b) can be drawn without X.
Fact = Literal["quadratic", "covariance", "linear", "edges", "prior", "bayes", "statistics"]


@runtime_checkable
class Random(Protocol):
    """Independent random streams, drawn from together; every draw has `streams` as its first axis."""

    def normal(self, *shape: int) -> Float[Tensor, "streams ..."]:
        """Draw standard normal numbers of this shape for every stream."""

    def uniform(self, *shape: int) -> Float[Tensor, "streams ..."]:
        """Draw uniform numbers on (0, 1) of this shape for every stream."""

    def chi(self, degrees: list[int], prompts: int) -> Float[Tensor, "streams degrees prompts"]:
        """Draw chi variables: in row i, roots of chi-square variables with `degrees[i]` degrees of freedom."""


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """A distribution of prompts. A float field may hold one value, or a tensor with one entry per packed stream:
    `streams 1 1` for a float, `streams k` for k floats. So code that uses float fields must broadcast.
    """

    d: Dimension
    n: Count

    def check(self) -> None:
        """Raise ValueError, naming the field, where fields are inconsistent with each other."""

    @property
    def facts(self) -> frozenset[Fact]:
        """What solvers may rely on. Default: what holds for `Examples` with a w_star and a law with root and dual."""
        return frozenset({"quadratic", "linear", "covariance"})

    def frame(self, random: Random) -> Tensor | None:
        """Draw what one seed fixes for all its prompts, such as a rotation; None where there is nothing to fix."""
        return None

    @abstractmethod
    def examples(self, random: Random, frame: Tensor | None, prompts: int) -> Examples:
        """Draw prompts with all their examples and queries."""

    def prompts(self, random: Random, frame: Tensor | None, prompts: int) -> Prompts:
        """Draw prompts as a risk, with the query integrated out where that is possible. Override this method where
        there is a faster way than through X.
        """
        return self.examples(random, frame, prompts).prompts(sampled_query=False)
