"""The interface of solvers. A method sees a problem only through its gradient and curvature, and yields its iterates; a
token model sees a prompt's tokens, and yields its predictions; an oracle is given w*, and is a bound.

Shapes: `jobs` stands for any number of leading axes of packed jobs; `prompts` is the last axis. A float field of a
solver may hold one value or a tensor `jobs 1 1` with one entry per packed job, so code that uses it must broadcast.
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
        """The initial point w_0."""

    def gradient(self, w: Float[Tensor, "*jobs d prompts"]) -> Float[Tensor, "*jobs d prompts"]:
        """The gradient of the risk at w."""

    def curvature(
        self, p: Float[Tensor, "*jobs d prompts"], w: Float[Tensor, "*jobs d prompts"] | None = None
    ) -> Float[Tensor, "*jobs d prompts"]:
        """The Hessian at w times p; of a quadratic problem it is the same everywhere."""

    def whiten(self, g: Float[Tensor, "*jobs d prompts"]) -> Float[Tensor, "*jobs d prompts"]:
        """The product Sigma^{-1} g, for methods that are given the covariates' covariance."""

    def penalty(self) -> Tensor:
        """Lambda in the best linear estimate (G + Lambda)^{-1} b, for methods that are given teacher and noise."""

    def interval(self, known: Known) -> tuple[Tensor, Tensor]:
        """The ends of the spectrum of the Hessian, or of Sigma^{-1} times it; the same for every prompt."""


Residual = Callable[[Tensor], Tensor]  # w -> vectors whose squared length is the error at the query; affine in w


@dataclass(frozen=True)
class Span:
    """The space of a method's iterates: w_k in span{M b, M G M b, ...} of k vectors, M the preconditioner `known`.

    fixed: whether the coefficients are the same for every prompt. The space decides which bounds hold for a method, and
    in which matrix it has a residual polynomial.
    """

    known: Known
    fixed: bool


@dataclass(frozen=True, kw_only=True)
class Solver(ABC):
    """A solver with `depth` steps or layers.

    family: classical (nothing is fitted), learned (parameters trained by the engine), bound (is given what no method
    can know, or is fitted in closed form), control (solves a prompt completely, whatever its number of steps).
    """

    family: ClassVar[Literal["classical", "learned", "bound", "control"]]
    depth: Depth

    def check(self, d: int, n: int) -> None:
        """Raise ValueError, naming the field, where fields do not fit each other or a prompt of n examples in R^d."""

    @property
    def needs(self) -> frozenset[str]:
        """The facts, of a task's `facts`, that it must be able to rely on."""
        return frozenset()

    @property
    def span(self) -> Span | None:
        """The space of its iterates on a quadratic problem; None where it is not known."""
        return None

    @property
    def on_tokens(self) -> bool:
        """Whether it runs on the tokens of a prompt."""
        return False

    @property
    def context(self) -> bool:
        """Whether its parameters belong to positions in the prompt, so that it cannot be used at another n."""
        return False

    def init(self, d: int, n: int, normal: Normal) -> Params:
        """Initial parameters for training; empty where there is nothing to train."""
        return {}

    @property
    def trains(self) -> bool:
        """Whether its parameters are trained step by step."""
        return self.family == "learned"

    @property
    def fits(self) -> bool:
        """Whether its parameters have a closed form in the training prompts."""
        return False

    def trainable(self, name: str) -> bool:
        """Whether this parameter is trainable; if not, it is frozen."""
        return True


@dataclass(frozen=True, kw_only=True)
class Method(Solver):
    """A first-order method. The first k iterates of a classical method or bound are those of the method of depth k."""

    @abstractmethod
    def iterates(self, params: Params, problem: Problem) -> Iterator[Float[Tensor, "*jobs d prompts"]]:
        """Yield the iterates w_0, w_1, ..., w_depth."""

    @property
    def bound(self) -> FittedBound | None:
        """The method in closed form that training starts from; None where it starts from random numbers."""
        return None

    def layers(self, r: Float[Tensor, "jobs depth"], inverse: Float[Tensor, "jobs d d"] | None) -> Params:
        """Where there is a bound: the parameters of w_{l+1} = w_l - M (G w_l - b) / r_l; inverse: Sigma^{-1}."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Fitted(Method):
    """A method whose parameters have a closed form in sums over the prompts of its training batch."""

    @property
    def trains(self) -> bool:
        """False: nothing is trained step by step."""
        return False

    @property
    def fits(self) -> bool:
        """True: the parameters are fitted in closed form."""
        return True

    @abstractmethod
    def moments(self, params: Params, problem: Problem, residual: Residual) -> Params:
        """Sums over a batch's prompts that the closed form needs, `jobs ...`. params: the parameters that exist before
        the fit, such as those of a mixture's experts.
        """

    @abstractmethod
    def fit(self, moments: Params) -> Params:
        """The best parameters, from the moments summed over all batches."""


@dataclass(frozen=True, kw_only=True)
class FittedBound(Fitted):
    """A bound that is fitted to a million prompts of its own, whatever the protocol."""

    family: ClassVar[Literal["bound"]] = "bound"

    @abstractmethod
    def risk(self, params: Params, moments: Params) -> Float[Tensor, "*jobs depth"]:
        """The squared error after 1 .. depth steps, summed over the moments' prompts, up to a term that no parameters
        change: the quantity that fit minimises.
        """


@dataclass(frozen=True, kw_only=True)
class TokenModel(Solver):
    """A learned model that exists only in the form on tokens."""

    family: ClassVar[Literal["learned"]] = "learned"

    @property
    def on_tokens(self) -> bool:
        """True: there is no other form."""
        return True

    @abstractmethod
    def predictions(self, params: Params, Z: Float[Tensor, "... d_1 n_1 prompts"]) -> Iterator[Tensor]:
        """Yield its predictions of the query's label after 0, 1, ..., depth layers: jobs prompts each."""


@dataclass(frozen=True, kw_only=True)
class Oracle(Solver):
    """A bound that is given every prompt's w*."""

    family: ClassVar[Literal["bound"]] = "bound"

    @abstractmethod
    def answers(
        self, problem: Problem, root: Tensor, w_star: Float[Tensor, "*jobs d prompts"]
    ) -> Iterator[Float[Tensor, "*jobs d prompts"]]:
        """Yield w_0, w_1, ..., w_depth; root root^T = Sigma, so the error of w is |root^T (w - w*)|^2."""
