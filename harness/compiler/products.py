"""Sums over prompts of the products of two vectors' elements, as the gradient of a matrix is: which there are.

A thread would need a register for each of them. Instead the vectors of a tile of prompts are laid out in memory, and
each warp sums the products of one pair of vectors.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from .ir import PROMPT, Expr

LEAST, MOST = 9, 64  # products of a pair of vectors: fewer are not worth it, more are divided


@dataclass(frozen=True)
class Products:
    """All products of an element of one vector and one of another: `places[i * len(right) + j]` is left[i] * right[j]'s
    place among the sums.
    """

    left: tuple[Expr, ...]
    right: tuple[Expr, ...]
    places: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """The number of elements of each vector."""
        return len(self.left), len(self.right)


def products_of(sums: Iterable[tuple[int, Expr]]) -> Iterator[Products]:
    """The pairs of vectors all of whose products are among the sums, given as places and terms."""
    edges: dict[tuple[int, int], int] = {}  # places, by the numbers of the factors
    factors: dict[int, Expr] = {}
    for place, term in sums:
        if term.op == "*" and all(arg.level & PROMPT for arg in term.args):
            a, b = term.args
            edges[a.number, b.number] = place
            factors |= {a.number: a, b.number: b}
    neighbours: dict[int, set[int]] = {number: set() for number in factors}
    for one, other in edges:
        neighbours[one].add(other)
        neighbours[other].add(one)
    seen: set[int] = set()
    for start in sorted(factors):
        if start in seen:
            continue
        left, right = _sides(start, neighbours)
        seen |= left | right
        complete = not left & right and all(neighbours[number] == right for number in left)
        if complete and len(left) * len(right) >= LEAST:
            yield from _divided(sorted(left), sorted(right), edges, factors)


def _sides(start: int, neighbours: dict[int, set[int]]) -> tuple[set[int], set[int]]:
    """What an even and what an odd number of steps leads to."""
    sides: tuple[set[int], set[int]] = ({start}, set())
    ahead = [(start, 0)]
    while ahead:
        number, side = ahead.pop()
        for other in neighbours[number] - sides[1 - side]:
            sides[1 - side].add(other)
            ahead.append((other, 1 - side))
    return sides


def _divided(
    left: Sequence[int], right: Sequence[int], edges: dict[tuple[int, int], int], factors: dict[int, Expr]
) -> Iterator[Products]:
    """The products of two vectors, in parts that a thread has registers for."""
    if len(right) > MOST // 2:
        for at in range(0, len(right), MOST // 2):
            yield from _divided(left, right[at : at + MOST // 2], edges, factors)
        return
    rows = max(1, MOST // len(right))
    for at in range(0, len(left), rows):
        part = left[at : at + rows]
        places = [edges[(a, b) if (a, b) in edges else (b, a)] for a in part for b in right]
        yield Products(tuple(factors[a] for a in part), tuple(factors[b] for b in right), tuple(places))
