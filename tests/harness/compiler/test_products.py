"""Which sums of products there are: all of two vectors, whatever stands beside them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest

from lfombench.harness.compiler.ir import MEMBER, PROMPT, Expr, Memory
from lfombench.harness.compiler.products import MOST, Products, products_of
from lfombench.harness.compiler.registers import Registers


class Vectors:
    """Vectors of numbers that each prompt has."""

    def __init__(self) -> None:
        self.built, self.drawn = Registers(8, 10_000), itertools.count()

    def vector(self, size: int) -> list[Expr]:
        numbers = [next(self.drawn) for _ in range(size)]
        variates = [self.built.expr("variate", (), "float", detail=("normals", n, 0), level=PROMPT) for n in numbers]
        return [self.built.call("f_exp", variate) for variate in variates]

    def grid(self, left: Sequence[Expr], right: Sequence[Expr]) -> list[Expr]:
        return [self.built.binary("*", a, b) for a in left for b in right]


def assert_complete(found: Sequence[Products], terms: Sequence[Expr]) -> None:
    """Each term is one of the products, at its place, and none is there twice."""
    places = [place for one in found for place in one.places]
    assert sorted(places) == list(range(len(terms)))
    for one in found:
        assert len(one.places) == len(one.left) * len(one.right) <= MOST
        for place, (a, b) in zip(one.places, itertools.product(one.left, one.right), strict=True):
            assert set(terms[place].args) == {a, b}


@pytest.mark.parametrize(
    ("p", "q", "parts"),
    [(3, 3, 1), (9, 1, 1), (1, 9, 1), (4, 7, 1), (8, 8, 1), (12, 12, 3), (2, 40, 2), (40, 2, 2), (1, 100, 4)],
)
def test_all_products_of_two_vectors_are_found_and_divided(p, q, parts):
    vectors = Vectors()
    terms = vectors.grid(vectors.vector(p), vectors.vector(q))
    for order in (terms, terms[::-1]):
        found = list(products_of(enumerate(order)))
        assert_complete(found, order)
        assert len(found) in (parts, parts + 1)


def test_pairs_of_vectors_are_told_apart_and_those_with_a_vector_in_common_are_one():
    vectors = Vectors()
    a, b, c, d, e = (vectors.vector(3) for _ in range(5))
    terms = [*vectors.grid(a, b), *vectors.grid(d, c), *vectors.grid(c, e)]
    found = list(products_of(enumerate(terms)))
    assert_complete(found, terms)
    assert sorted(sorted(one.shape) for one in found) == [[3, 3], [3, 6]]


def _incomplete(vectors: Vectors) -> list[Expr]:
    return vectors.grid(vectors.vector(4), vectors.vector(4))[:-1]


def _squares(vectors: Vectors) -> list[Expr]:
    return [vectors.built.binary("*", a, a) for a in vectors.vector(12)]


def _symmetric(vectors: Vectors) -> list[Expr]:
    a = vectors.vector(5)
    return vectors.grid(a, a)


def _triangle(vectors: Vectors) -> list[Expr]:
    a, b, c = (vectors.vector(3) for _ in range(3))
    return [*vectors.grid(a, b), *vectors.grid(b, c), *vectors.grid(a, c)]


def _too_small(vectors: Vectors) -> list[Expr]:
    return [term for _ in range(9) for term in vectors.grid(vectors.vector(2), vectors.vector(4))]


def _sums(vectors: Vectors) -> list[Expr]:
    return [vectors.built.binary("+", a, b) for a in vectors.vector(4) for b in vectors.vector(4)]


def _of_members(vectors: Vectors) -> list[Expr]:
    memory = Memory("state_0", "float", 4, MEMBER)
    return vectors.grid(vectors.vector(4), [vectors.built.load(memory, i) for i in range(4)])


@pytest.mark.parametrize("make", [_incomplete, _squares, _symmetric, _triangle, _too_small, _sums, _of_members])
def test_other_terms_are_left_alone(make):
    """And do not keep what stands beside them from being found."""
    vectors = Vectors()
    others = make(vectors)
    assert not list(products_of(enumerate(others)))
    grid = vectors.grid(vectors.vector(4), vectors.vector(4))
    found = list(products_of(enumerate([*others, *grid])))
    assert [place - len(others) for one in found for place in one.places] == list(range(16))
