"""Parts that several methods share: preconditioners, step sizes, small linear systems."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Annotated, Literal

import torch
from annotated_types import Gt
from jaxtyping import Float
from torch import Tensor

from .base import Known, Normal, Params, Problem

Shape = Literal["scalar", "diagonal", "full"]
Preconditioner = Literal["identity", "covariance", "jacobi"]
# A number; theory: computed from the ends of the Hessian's spectrum; tuned: one number that the protocol trains;
# per_layer: one such number for each layer.
Coefficient = Annotated[float, Gt(0)] | Literal["theory", "tuned", "per_layer"]


def coefficients(depth: int, normal: Normal, **values: object) -> dict[str, Tensor]:
    """Initial values of the coefficients that are trained: `jobs 1` where tuned, `jobs depth` where per_layer."""
    sizes = {"tuned": 1, "per_layer": depth}
    return {name: normal(sizes[value]) for name, value in values.items() if isinstance(value, str) and value in sizes}


def coefficient(
    value: Coefficient | Tensor, name: str, params: Params, l: int, theory: Tensor | float
) -> Tensor | float:
    """A coefficient at layer l, in a shape that broadcasts with `jobs d prompts`."""
    if value == "theory":
        return theory
    if isinstance(value, str):
        return params[name][..., 0 if value == "tuned" else l, None, None]
    return value


def trained(*values: object) -> bool:
    """Whether any of these coefficients is trained."""
    return any(isinstance(value, str) and value in ("tuned", "per_layer") for value in values)


def conditioner(kind: Preconditioner, problem: Problem) -> Callable[[Tensor], Tensor]:
    """The map from g to M g: g itself, Sigma^{-1} g, or g over the Hessian's diagonal, which is computed once."""
    if kind == "jacobi":
        return functools.partial(ratio, denominator=diagonal(problem))
    return problem.whiten if kind == "covariance" else _itself


def _itself(g: Tensor) -> Tensor:
    return g


def needs(kind: Preconditioner, *values: object) -> frozenset[str]:
    """The facts that a preconditioner and coefficients need of a task."""
    facts = {"covariance"} if kind == "covariance" else {"quadratic"} if kind == "jacobi" else set[str]()
    return frozenset(facts | ({"edges"} if "theory" in values else set[str]()))


def known(kind: Preconditioner) -> Known | None:
    """The preconditioner by its name in Span and in bounds; None for jacobi, which has none there."""
    return None if kind == "jacobi" else kind


def axes(problem: Problem) -> tuple[Float[Tensor, "*jobs d prompts"], ...]:
    """The d unit vectors, for every prompt."""
    zero = problem.start()
    identity = torch.eye(zero.shape[-2], dtype=zero.dtype, device=zero.device)
    return (zero.unsqueeze(-3) + identity.unsqueeze(-1)).unbind(-3)


def diagonal(problem: Problem) -> Float[Tensor, "*jobs d prompts"]:
    """The diagonal of the Hessian at w_0."""
    return torch.stack([problem.curvature(axis)[..., i, :] for i, axis in enumerate(axes(problem))], -2)


def hessian(problem: Problem, w: Float[Tensor, "*jobs d prompts"]) -> Float[Tensor, "*jobs d d prompts"]:
    """The Hessian at w, computed column by column."""
    return torch.stack([problem.curvature(axis, w) for axis in axes(problem)], -2)


def solve(
    M: Float[Tensor, "*jobs d d prompts"], v: Float[Tensor, "*jobs d prompts"]
) -> Float[Tensor, "*jobs d prompts"]:
    """Solve M x = v for symmetric positive definite M, by Gauss-Jordan elimination, which then needs no pivots."""
    A = torch.cat([M.expand(*v.shape[:-1], *M.shape[-2:]), v.unsqueeze(-2)], -2)  # *jobs d d+1 prompts
    d = v.shape[-2]
    pivots = torch.eye(d, dtype=torch.bool, device=A.device)[..., None, None].unbind()
    for k in range(d):
        column, row = A.narrow(-2, k, 1), A.narrow(-3, k, 1)
        row = row / row.narrow(-2, k, 1)
        A = torch.where(pivots[k], row, A - column * row)
    return A[..., -1, :]


def preconditioner(shape: Shape, depth: int, d: int, normal: Normal) -> Tensor:
    """Initial A_1 .. A_depth near zero: `jobs depth`, `jobs depth d` or `jobs depth d d`."""
    return normal(depth, *{"scalar": (), "diagonal": (d,), "full": (d, d)}[shape])


def precondition(shape: Shape, A: Tensor, l: int, g: Float[Tensor, "*jobs d prompts"]) -> Tensor:
    """The product A_l g."""
    if shape == "full":
        return (A[..., l, :, :, None] * g.unsqueeze(-3)).sum(-2)
    return (A[..., l, :, None] if shape == "diagonal" else A[..., l, None, None]) * g


def matrices(shape: Shape, A: Tensor, d: int) -> Float[Tensor, "*jobs depth d d"]:
    """The preconditioners A_1 .. A_depth as matrices, whatever their shape."""
    if shape == "full":
        return A
    identity = torch.eye(d, dtype=A.dtype, device=A.device)
    return A[..., None] * identity if shape == "diagonal" else A[..., None, None] * identity


def dot(u: Float[Tensor, "*jobs d prompts"], v: Float[Tensor, "*jobs d prompts"]) -> Float[Tensor, "*jobs 1 prompts"]:
    """The inner product <u, v> per prompt."""
    return (u * v).sum(-2, keepdim=True)


def ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """The quotient, 0 where the denominator is 0: an iterate that has converged, or cannot go on, stays."""
    return torch.where(denominator == 0, 0.0, numerator / denominator)
