"""What a solver is: a method that sees a problem only through its gradient and curvature, and gives its iterates; a
token model that sees a prompt's tokens, and gives its predictions; or an oracle, that is told w*: a bound.

Shapes: `jobs` stands for any number of leading axes of packed jobs; `prompts` is the last axis. A float field of a
solver may hold one value or a tensor `jobs 1 1` with one entry per packed job, so write it with broadcasting.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Protocol, runtime_checkable

from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor

Depth = Annotated[int, Ge(1), Le(1000)]
Params = Mapping[str, Tensor]
Normal = Callable[..., Tensor]  # normal(*shape) -> jobs *shape, small and centred
Known = Literal["identity", "covariance"]


@runtime_checkable
class Problem(Protocol):
    """A differentiable risk per prompt."""

    def start(self) -> Float[Tensor, "*jobs d prompts"]:
        """w_0."""

    def gradient(self, w: Float[Tensor, "*jobs d prompts"]) -> Float[Tensor, "*jobs d prompts"]:
        """grad R(w)."""

    def curvature(
        self, p: Float[Tensor, "*jobs d prompts"], w: Float[Tensor, "*jobs d prompts"] | None = None
    ) -> Float[Tensor, "*jobs d prompts"]:
        """The Hessian at w times p; of a quadratic problem it is the same everywhere."""

    def whiten(self, g: Float[Tensor, "*jobs d prompts"]) -> Float[Tensor, "*jobs d prompts"]:
        """Sigma^{-1} g, for methods that are told the covariates' covariance."""

    def penalty(self) -> Tensor:
        """Lambda in the best linear estimate (G + Lambda)^{-1} b, for methods that are told teacher and noise."""

    def interval(self, known: Known) -> tuple[Tensor, Tensor]:
        """Where the eigenvalues of the Hessian, or of Sigma^{-1} times it, end; the same for every prompt."""


Residual = Callable[[Tensor], Tensor]  # w -> vectors whose squared length is the error at the query; affine in w


@dataclass(frozen=True)
class Span:
    """Where iterates lie: w_k in span{M b, M G M b, ...} of k vectors, M the preconditioner.

    fixed: with the same coefficients for every prompt. What bounds a method, and what its residual polynomial is.
    """

    known: Known
    fixed: bool


@dataclass(frozen=True, kw_only=True)
class Solver(ABC):
    """Something with `depth` steps or layers.

    family: classical (nothing is fitted), learned (parameters trained by the engine), bound (told what no method can
    know, or fitted in closed form), control (solves a prompt outright, whatever its number of steps).
    """

    family: ClassVar[Literal["classical", "learned", "bound", "control"]]
    depth: Depth

    def check(self, d: int, n: int) -> None:
        """Raise ValueError, naming the field, where fields do not fit each other or a prompt of n examples in R^d."""

    @property
    def needs(self) -> frozenset[str]:
        """What it must be able to count on, of a task's `facts`."""
        return frozenset()

    @property
    def span(self) -> Span | None:
        """Where its iterates lie on a quadratic problem; None where nothing is known of that."""
        return None

    @property
    def on_tokens(self) -> bool:
        """Whether it runs on the tokens of a prompt."""
        return False

    @property
    def context(self) -> bool:
        """Whether its parameters belong to positions in the prompt, so that it means nothing at another n."""
        return False

    def init(self, d: int, n: int, normal: Normal) -> Params:
        """Parameters to start training from; empty where there is nothing to train."""
        return {}

    @property
    def trains(self) -> bool:
        """Whether parameters are trained, step by step."""
        return self.family == "learned"

    @property
    def fits(self) -> bool:
        """Whether parameters have a closed form in the training prompts."""
        return False

    def moving(self, name: str) -> bool:
        """Whether training changes a parameter."""
        return True


@dataclass(frozen=True, kw_only=True)
class Method(Solver):
    """A first-order method. The first k iterates of a classical method or bound are the method of depth k."""

    @abstractmethod
    def iterates(self, params: Params, problem: Problem) -> Iterator[Float[Tensor, "*jobs d prompts"]]:
        """w_0, w_1, ..., w_depth."""

    @property
    def bound(self) -> FittedBound | None:
        """The method in closed form that training starts from; None: it starts from random numbers."""
        return None

    def layers(self, r: Float[Tensor, "jobs depth"], inverse: Float[Tensor, "jobs d d"] | None) -> Params:
        """Where there is one: the parameters of w_{l+1} = w_l - M (G w_l - b) / r_l; inverse: Sigma^{-1}."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Fitted(Method):
    """A method whose parameters have a closed form in sums over prompts: those of its training batch."""

    @property
    def trains(self) -> bool:
        """No."""
        return False

    @property
    def fits(self) -> bool:
        """Yes."""
        return True

    @abstractmethod
    def moments(self, params: Params, problem: Problem, residual: Residual) -> Params:
        """What the closed form needs of a batch: sums over prompts, `jobs ...`. params: what is there before, of a
        mixture's experts.
        """

    @abstractmethod
    def fit(self, moments: Params) -> Params:
        """The best parameters, from the moments of all batches, added."""


@dataclass(frozen=True, kw_only=True)
class FittedBound(Fitted):
    """A bound that is fitted: to a million prompts of its own, whatever the protocol."""

    family: ClassVar[Literal["bound"]] = "bound"

    @abstractmethod
    def risk(self, params: Params, moments: Params) -> Float[Tensor, "*jobs depth"]:
        """The squared error after 1 .. depth steps, summed over the moments' prompts, up to what no parameters change:
        what fit makes least.
        """


@dataclass(frozen=True, kw_only=True)
class TokenModel(Solver):
    """A model that has no form but that on tokens; learned."""

    family: ClassVar[Literal["learned"]] = "learned"

    @property
    def on_tokens(self) -> bool:
        """Always."""
        return True

    @abstractmethod
    def predictions(self, params: Params, Z: Float[Tensor, "... d_1 n_1 prompts"]) -> Iterator[Tensor]:
        """What it says of the query's label after 0, 1, ..., depth layers: jobs prompts each."""


@dataclass(frozen=True, kw_only=True)
class Oracle(Solver):
    """A bound that is told every prompt's w*."""

    family: ClassVar[Literal["bound"]] = "bound"

    @abstractmethod
    def answers(
        self, problem: Problem, root: Tensor, w_star: Float[Tensor, "*jobs d prompts"]
    ) -> Iterator[Float[Tensor, "*jobs d prompts"]]:
        """w_0, w_1, ..., w_depth; root root^T = Sigma, so that the error of w is |root^T (w - w*)|^2."""
