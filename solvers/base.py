"""What a solver is: a method that sees a problem only through its gradient and curvature, and gives its iterates;
or a token model that sees a prompt's tokens, and gives its predictions.

Shapes: `jobs` stands for any number of leading axes of packed jobs; `prompts` is the last axis. A float field of a
solver may hold one value or a tensor `jobs 1 1` with one entry per packed job, so write it with broadcasting.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Protocol, runtime_checkable

import torch
from annotated_types import Ge, Le
from jaxtyping import Float
from torch import Tensor

Depth = Annotated[int, Ge(1), Le(1000)]
Params = Mapping[str, Tensor]
Normal = Callable[..., Tensor]  # normal(*shape) -> jobs *shape, small and centred


@runtime_checkable
class Problem(Protocol):
    """A differentiable risk per prompt."""

    def start(self) -> Float[Tensor, "*jobs d prompts"]:
        """w_0."""

    def gradient(self, w: Float[Tensor, "*jobs d prompts"]) -> Float[Tensor, "*jobs d prompts"]:
        """grad R(w)."""

    def curvature(self, p: Float[Tensor, "*jobs d prompts"]) -> Float[Tensor, "*jobs d prompts"]:
        """The Hessian times p."""

    def whiten(self, g: Float[Tensor, "*jobs d prompts"]) -> Float[Tensor, "*jobs d prompts"]:
        """Sigma^{-1} g, for methods that are told the covariates' covariance."""


Residual = Callable[[Tensor], Tensor]  # w -> vectors whose squared length is the error at the query; affine in w


@dataclass(frozen=True, kw_only=True)
class Solver(ABC):
    """Something with `depth` steps or layers.

    family: classical (nothing is fitted), learned (parameters trained by the engine), bound (parameters in closed
    form). tokens: whether it runs on the tokens of a prompt; a field where both forms exist.
    """

    family: ClassVar[Literal["classical", "learned", "bound"]]
    depth: Depth

    def check(self, d: int) -> None:
        """Raise ValueError, naming the field, where fields do not fit each other or a problem in R^d."""

    def init(self, d: int, normal: Normal) -> Params:
        """Parameters to start training from; empty where there is nothing to train."""
        return {}


@dataclass(frozen=True, kw_only=True)
class Method(Solver):
    """A first-order method. The first k iterates of a classical method or bound are the method of depth k."""

    def moments(self, problem: Problem, residual: Residual) -> Params:
        """What a closed form needs of a batch: sums over prompts, `jobs ...`. Bounds only."""
        return {}

    def fit(self, moments: Params) -> Params:
        """Parameters in closed form from the moments of all batches, added. Bounds only."""
        return {}

    @abstractmethod
    def iterates(self, params: Params, problem: Problem) -> Iterator[Float[Tensor, "*jobs d prompts"]]:
        """w_0, w_1, ..., w_depth."""


@dataclass(frozen=True, kw_only=True)
class TokenModel(Solver):
    """A model that has no form but that on tokens; learned."""

    family: ClassVar[Literal["learned"]] = "learned"
    tokens: ClassVar[bool] = True

    @abstractmethod
    def predictions(self, params: Params, Z: Float[Tensor, "... d_1 n_1 prompts"]) -> Iterator[Tensor]:
        """What it says of the query's label after 0, 1, ..., depth layers: jobs prompts each."""


def on_tokens(solver: Solver) -> bool:
    """Whether a solver runs on the tokens of a prompt."""
    return bool(getattr(solver, "tokens", False))


Shape = Literal["scalar", "diagonal", "full"]


def preconditioner(shape: Shape, depth: int, d: int, normal: Normal) -> Tensor:
    """A_1 .. A_depth near zero: `jobs depth`, `jobs depth d` or `jobs depth d d`."""
    return normal(depth, *{"scalar": (), "diagonal": (d,), "full": (d, d)}[shape])


def precondition(shape: Shape, A: Tensor, l: int, g: Float[Tensor, "*jobs d prompts"]) -> Tensor:
    """A_l g."""
    if shape == "full":
        return (A[..., l, :, :, None] * g.unsqueeze(-3)).sum(-2)
    return (A[..., l, :, None] if shape == "diagonal" else A[..., l, None, None]) * g


def matrices(shape: Shape, A: Tensor, d: int) -> Float[Tensor, "*jobs depth d d"]:
    """A_1 .. A_depth as matrices, whatever their shape."""
    if shape == "full":
        return A
    identity = torch.eye(d, dtype=A.dtype, device=A.device)
    return A[..., None] * identity if shape == "diagonal" else A[..., None, None] * identity


def dot(u: Float[Tensor, "*jobs d prompts"], v: Float[Tensor, "*jobs d prompts"]) -> Float[Tensor, "*jobs 1 prompts"]:
    """<u, v> per prompt."""
    return (u * v).sum(-2, keepdim=True)


def ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Their quotient, 0 where the numerator is 0: a finished iterate stays where it is."""
    return torch.where(numerator == 0, 0.0, numerator / denominator)
