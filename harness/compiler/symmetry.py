"""Symmetric matrices: which arrays are, and where a vector is multiplied by one.

Half of such a matrix is enough. Each element below the diagonal is read once for a product and used twice, so that a
matrix of twice the size stays in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from .affine import Affine, Position, Variable, loops_of
from .builder import Builder
from .ir import PROMPT, Expr, Memory, needed

LEAST = 8  # rows, from which on it pays


@dataclass(frozen=True)
class Product:
    """The sum over `loop` of a symmetric matrix's row times a vector."""

    matrix: Memory
    n: int
    loop: Variable
    vector: Expr  # an element
    place: tuple[Memory, int] | None  # where the vector stands in memory, and from which element on


def is_symmetric(builder: Builder, axes: tuple[Variable, ...], position: Position, value: Expr) -> bool:
    """Whether the value at (i, j) is the value at (j, i), for a matrix of each prompt, as an expression."""
    if len(axes) != 2 or axes[0].size != axes[1].size or axes[0].size < LEAST or not value.level & PROMPT:
        return False
    i, j = (Affine(((v, 1),)) for v in axes)
    return position == i * axes[0].size + j and builder.replaced(value, {axes[0]: j, axes[1]: i}) is value


def symmetric_products(
    matrices: Mapping[Memory, int], axes: tuple[Variable, ...], value: Expr
) -> Iterator[tuple[Expr, Product]]:
    """Products of symmetric matrices and vectors among the sums of a value, for an array with one axis."""
    if len(axes) != 1:
        return
    for expr in needed([value]):
        if expr.op != "sum" or len(expr.detail) != 1 or expr.args[0].op != "*":
            continue
        [loop] = expr.detail
        for load, vector in (expr.args[0].args, expr.args[0].args[::-1]):
            if load.op != "load" or load.place[0] not in matrices or axes[0] in vector.loops:
                continue
            if not vector.level & PROMPT:  # one for all prompts, as a unit vector: the product reads one of each
                continue
            memory, position = load.place
            n = matrices[memory]
            i, j = (Affine(((v, 1),)) for v in (axes[0], loop))
            if n == loop.size == axes[0].size and position in (i * n + j, j * n + i):
                yield expr, Product(memory, n, loop, vector, _place(vector, loop))
                break


def _place(vector: Expr, loop: Variable) -> tuple[Memory, int] | None:
    """Where a vector stands in memory of each prompt, one element after the other."""
    if vector.op != "load" or not vector.level & PROMPT or not loops_of(vector.place[1]):
        return None
    memory, position = vector.place
    assert isinstance(position, Affine)
    return (memory, position.constant) if position.terms == ((loop, 1),) else None
