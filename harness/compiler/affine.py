"""Affine index expressions: sums of loop variables with integer factors, and the arithmetic on them that reshaping,
slicing and transposing an array need.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal


@dataclass(frozen=True)
class Variable:
    """A loop variable, or a function of one that is not affine: 0 <= value < size.

    A loop variable has a name alone. Otherwise kind says which function of the expression `of` it is: its quotient or
    remainder by `n`, or an entry of the constant table `name`.
    """

    name: str
    size: int
    kind: Literal["loop", "quotient", "remainder", "entry"] = "loop"
    of: Affine | None = None
    n: int = 0

    @property
    def loops(self) -> frozenset[Variable]:
        """The loop variables that it depends on."""
        return frozenset([self]) if self.of is None else self.of.loops

    @property
    def code(self) -> str:
        """The variable in C++."""
        if self.of is None:
            return self.name
        if self.kind == "entry":
            return f"{self.name}[{self.of.code}]"
        return f"(({self.of.code}) {'/' if self.kind == 'quotient' else '%'} {self.n})"


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
    def loops(self) -> frozenset[Variable]:
        """The loop variables that it depends on."""
        return frozenset().union(*(v.loops for v, _ in self.terms))

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
        quotient = Variable("", rest.maximum // n + 1, "quotient", rest, n)
        remainder = Variable("", n, "remainder", rest, n)
        return multiple + Affine(((quotient, 1),)), Affine(((remainder, 1),))


Position = Affine | int
Table = Callable[[str, int], int]  # the value of an entry of a constant table


def simplified(expression: Affine) -> Position:
    """The expression, or an int if it has no variables."""
    return expression if expression.terms else expression.constant


def substituted(expression: Position, values: Mapping[Variable, Position], table: Table) -> Position:
    """The expression with other expressions, or ints, in place of some of its loop variables."""
    if isinstance(expression, int) or not expression.loops & values.keys():
        return expression
    total: Any = expression.constant
    for v, factor in expression.terms:
        total = total + _substituted(v, values, table) * factor
    return total if isinstance(total, int) else simplified(total)


def _substituted(v: Variable, values: Mapping[Variable, Position], table: Table) -> Position:
    if v.of is None:
        return values.get(v, Affine(((v, 1),)))
    of = substituted(v.of, values, table)
    if isinstance(of, Affine):
        return Affine(((replace(v, of=of), 1),))
    return table(v.name, of) if v.kind == "entry" else of // v.n if v.kind == "quotient" else of % v.n


def code_of(expression: Position) -> str:
    """An affine expression, or an int, in C++."""
    return expression.code if isinstance(expression, Affine) else str(expression)


def loops_of(expression: Position) -> frozenset[Variable]:
    """The loop variables that an affine expression, or an int, depends on."""
    return expression.loops if isinstance(expression, Affine) else frozenset()


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
