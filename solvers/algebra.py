"""What several methods are made of: shapes of preconditioners, step sizes, small linear systems."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from annotated_types import Gt
from jaxtyping import Float
from torch import Tensor

from .base import Known, Normal, Params, Problem

Shape = Literal["scalar", "diagonal", "full"]
Preconditioner = Literal["identity", "covariance", "jacobi"]
# A number; by theory, from where the Hessian's spectrum ends; tuned, one number that the protocol trains; or
# per_layer, as many.
Coefficient = Annotated[float, Gt(0)] | Literal["theory", "tuned", "per_layer"]


def coefficients(depth: int, normal: Normal, **given: object) -> dict[str, Tensor]:
    """Those that are trained: `jobs 1` where tuned, `jobs depth` where per_layer."""
    sizes = {"tuned": 1, "per_layer": depth}
    return {name: normal(sizes[value]) for name, value in given.items() if isinstance(value, str) and value in sizes}


def coefficient(
    value: Coefficient | Tensor, name: str, params: Params, l: int, theory: Tensor | float
) -> Tensor | float:
    """A coefficient at layer l, to broadcast with `jobs d prompts`."""
    if value == "theory":
        return theory
    if isinstance(value, str):
        return params[name][..., 0 if value == "tuned" else l, None, None]
    return value


def trained(*values: object) -> bool:
    """Whether any of these coefficients is."""
    return any(isinstance(value, str) and value in ("tuned", "per_layer") for value in values)


def conditioned(kind: Preconditioner, problem: Problem, g: Float[Tensor, "*jobs d prompts"]) -> Tensor:
    """M g: g itself, Sigma^{-1} g, or g over the Hessian's diagonal."""
    if kind == "identity":
        return g
    return problem.whiten(g) if kind == "covariance" else ratio(g, diagonal(problem))


def needs(kind: Preconditioner, *values: object) -> frozenset[str]:
    """What a preconditioner and coefficients ask of a task."""
    found = {"covariance"} if kind == "covariance" else {"quadratic"} if kind == "jacobi" else set[str]()
    return frozenset(found | ({"edges"} if "theory" in values else set[str]()))


def known(kind: Preconditioner) -> Known | None:
    """As the bounds name it; None where they do not."""
    return None if kind == "jacobi" else kind


def axis(problem: Problem, i: int) -> Float[Tensor, "*jobs d prompts"]:
    """The i-th unit vector, for every prompt."""
    zero = problem.start()
    unit = torch.tensor([float(j == i) for j in range(zero.shape[-2])], dtype=zero.dtype, device=zero.device)
    return zero + unit.unsqueeze(-1)


def diagonal(problem: Problem) -> Float[Tensor, "*jobs d prompts"]:
    """Of the Hessian at w_0."""
    d = problem.start().shape[-2]
    return torch.stack([problem.curvature(axis(problem, i))[..., i, :] for i in range(d)], -2)


def hessian(problem: Problem, w: Float[Tensor, "*jobs d prompts"]) -> Float[Tensor, "*jobs d d prompts"]:
    """At w, column by column."""
    d = w.shape[-2]
    return torch.stack([problem.curvature(axis(problem, i), w) for i in range(d)], -2)


def solve(
    M: Float[Tensor, "*jobs d d prompts"], v: Float[Tensor, "*jobs d prompts"]
) -> Float[Tensor, "*jobs d prompts"]:
    """M^{-1} v for symmetric positive definite M, by Gauss and Jordan's elimination, which then needs no pivots."""
    A = torch.cat([M.expand(*v.shape[:-1], *M.shape[-2:]), v.unsqueeze(-2)], -2)  # *jobs d d+1 prompts
    d = v.shape[-2]
    for k in range(d):
        row = A[..., k, :, :] / A[..., k, k, None, :]
        others = torch.tensor([i != k for i in range(d)], dtype=A.dtype, device=A.device)[:, None, None]
        A = others * (A - A[..., :, k, None, :] * row.unsqueeze(-3)) + (1 - others) * row.unsqueeze(-3)
    return A[..., -1, :]


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
    """Their quotient, 0 where the denominator is: an iterate that is finished, or cannot go on, stays where it is."""
    return torch.where(denominator == 0, 0.0, numerator / denominator)
