"""Affine index expressions: sums of loop variables with integer factors, and the arithmetic on them that reshaping,
slicing and transposing an array need.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Variable:
    """An integer expression `code` of the C++ program, with 0 <= value < size; it changes in the loop at `depth`."""

    code: str
    size: int
    depth: int


@dataclass(frozen=True)
class Affine:
    """A sum of variables, each times a positive integer factor, plus an integer constant."""

    terms: tuple[tuple[Variable, int], ...]  # (variable, factor)
    constant: int = 0

    @property
    def maximum(self) -> int:
        """The largest value of the expression."""
        return self.constant + sum(factor * (v.size - 1) for v, factor in self.terms)

    @property
    def code(self) -> str:
        """The expression in C++."""
        terms = [v.code if factor == 1 else f"{v.code} * {factor}" for v, factor in self.terms]
        return " + ".join(terms + ([str(self.constant)] if self.constant else []))

    def __add__(self, other: Affine | int) -> Affine:
        if isinstance(other, int):
            return Affine(self.terms, self.constant + other)
        return Affine(self.terms + other.terms, self.constant + other.constant)

    __radd__ = __add__

    def __mul__(self, multiplier: int) -> Any:
        if multiplier == 0:
            return 0
        assert multiplier > 0
        return Affine(tuple((v, factor * multiplier) for v, factor in self.terms), self.constant * multiplier)

    __rmul__ = __mul__

    def __divmod__(self, n: int) -> tuple[Any, Any]:
        divisible = tuple((v, factor // n) for v, factor in self.terms if factor % n == 0)
        rest = Affine(tuple((v, factor) for v, factor in self.terms if factor % n), self.constant % n)
        multiple = Affine(divisible, self.constant // n)
        if rest.maximum < n:
            return simplified(multiple), simplified(rest)
        depth = depth_of(rest)
        quotient = Variable(f"(({rest.code}) / {n})", rest.maximum // n + 1, depth)
        remainder = Variable(f"(({rest.code}) % {n})", n, depth)
        return multiple + Affine(((quotient, 1),)), Affine(((remainder, 1),))


def simplified(expression: Affine) -> Affine | int:
    """The expression, or an int if it has no variables."""
    return expression if expression.terms else expression.constant


def code_of(expression: Any) -> str:
    """An affine expression, or an int, in C++."""
    return expression.code if isinstance(expression, Affine) else str(expression)


def depth_of(expression: Any) -> int:
    """The depth of the innermost loop that changes an affine expression, or an int; 0 if no loop does."""
    return max((v.depth for v, _ in expression.terms), default=0) if isinstance(expression, Affine) else 0


def ravel(index: Sequence[Any], shape: Sequence[int]) -> Any:
    """The position of an index in a flat array, in row-major order."""
    flat: Any = 0
    for i, n in zip(index, shape, strict=True):
        flat = flat * n + i
    return flat


def unravel(flat: Any, shape: Sequence[int]) -> tuple[Any, ...]:
    """The index of a position in a flat array: the inverse of `ravel`."""
    index = []
    for n in reversed(shape):
        flat, i = divmod(flat, n)
        index.append(i)
    return tuple(reversed(index))
