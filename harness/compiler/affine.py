"""Places in an array, as numbers or as sums of loop variables: enough arithmetic to reshape, slice and transpose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Variable:
    """A whole number that C++ knows: `code` names it; 0 <= it < size; it changes in the loop at `depth`."""

    code: str
    size: int
    depth: int


@dataclass(frozen=True)
class Place:
    """A sum of variables, each times a positive number, and a number."""

    terms: tuple[tuple[Variable, int], ...]
    constant: int = 0

    @property
    def most(self) -> int:
        """The largest it can be."""
        return self.constant + sum(times * (v.size - 1) for v, times in self.terms)

    @property
    def code(self) -> str:
        """In C++."""
        parts = [v.code if times == 1 else f"{v.code} * {times}" for v, times in self.terms]
        return " + ".join(parts + ([str(self.constant)] if self.constant else []))

    def __add__(self, other: Place | int) -> Place:
        if isinstance(other, int):
            return Place(self.terms, self.constant + other)
        return Place(self.terms + other.terms, self.constant + other.constant)

    __radd__ = __add__

    def __mul__(self, times: int) -> Any:
        if times == 0:
            return 0
        assert times > 0
        return Place(tuple((v, n * times) for v, n in self.terms), self.constant * times)

    __rmul__ = __mul__

    def __divmod__(self, n: int) -> tuple[Any, Any]:
        whole = tuple((v, times // n) for v, times in self.terms if times % n == 0)
        rest = Place(tuple((v, times) for v, times in self.terms if times % n), self.constant % n)
        multiple = Place(whole, self.constant // n)
        if rest.most < n:
            return plain(multiple), plain(rest)
        depth = depth_of(rest)
        quotient = Variable(f"(({rest.code}) / {n})", rest.most // n + 1, depth)
        remainder = Variable(f"(({rest.code}) % {n})", n, depth)
        return multiple + Place(((quotient, 1),)), Place(((remainder, 1),))


def plain(place: Place) -> Place | int:
    """As a number where it is one."""
    return place if place.terms else place.constant


def code_of(place: Any) -> str:
    """A place or a number in C++."""
    return place.code if isinstance(place, Place) else str(place)


def depth_of(place: Any) -> int:
    """The loop in which it changes; 0 outside all."""
    return max((v.depth for v, _ in place.terms), default=0) if isinstance(place, Place) else 0


def ravel(index: Sequence[Any], shape: Sequence[int]) -> Any:
    """The position in a flat array."""
    flat: Any = 0
    for i, n in zip(index, shape, strict=True):
        flat = flat * n + i
    return flat


def unravel(flat: Any, shape: Sequence[int]) -> tuple[Any, ...]:
    """Its inverse."""
    index = []
    for n in reversed(shape):
        flat, i = divmod(flat, n)
        index.append(i)
    return tuple(reversed(index))
