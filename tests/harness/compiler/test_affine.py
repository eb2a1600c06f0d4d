"""Affine index expressions against plain integers: whatever is done to an index, its code gives what integers would."""

from __future__ import annotations

import math
from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from lfombench.harness.compiler.affine import Affine, Variable, code_of, loops_of, ravel, substituted, unravel

shapes = st.lists(st.integers(1, 5), min_size=1, max_size=4)


def value(place, variables: dict[str, int]) -> int:
    """What C++ would make of it; no number here is negative, so its division is Python's."""
    return eval(code_of(place).replace(" / ", " // "), dict(variables))


@given(shapes, st.data())
def test_an_index_survives_any_reshaping(shape, data):
    """Through a slice of a view of a view: every element is found where NumPy's order has it."""
    size = math.prod(shape)
    other = data.draw(st.permutations([n for n in shape] + [1]))
    start = data.draw(st.integers(0, size - 1))
    index = tuple(Affine(((Variable(f"i{a}", n), 1),)) if n > 1 else 0 for a, n in enumerate(shape))
    moved = ravel(unravel(ravel(index, shape), other), other) + start
    for numbers in product(*(range(n) for n in shape)):
        variables = {f"i{a}": i for a, i in enumerate(numbers)}
        assert value(moved, variables) == ravel(numbers, shape) + start
        for place, i in zip(
            unravel(moved, (2, *other)), unravel(ravel(numbers, shape) + start, (2, *other)), strict=True
        ):
            assert value(place, variables) == i


def test_only_the_axes_that_a_view_splits_are_divided():
    i, j = (Affine(((Variable(name, n), 1),)) for name, n in (("i", 4), ("j", 6)))
    a, b, c = unravel(ravel((i, j), (4, 6)), (4, 2, 3))
    assert (code_of(a), code_of(b), code_of(c)) == ("i", "((j) / 3)", "((j) % 3)")
    assert unravel(ravel((i, j), (4, 6)), (4, 6)) == (i, j)
    assert [loops_of(x) for x in (a, c, 0)] == [i.loops, j.loops, frozenset()]


@given(shapes, st.data())
def test_an_index_with_other_variables_has_the_value_that_these_give(shape, data):
    """Rows in blocks, as products compute them: i = 2 k + 1, through views that divide."""
    other = data.draw(st.permutations([*shape, 1]))
    index = tuple(Affine(((Variable(f"i{a}", n), 1),)) if n > 1 else 0 for a, n in enumerate(shape))
    moved = unravel(ravel(index, shape), other)
    table = {i: (7 * i) % 5 for i in range(2 * max(shape) + 1)}
    k = Affine(((Variable("k", 1), 2),), 1)
    values = {v: data.draw(st.sampled_from([k, 0])) for i in index for v in loops_of(i) if v.size >= 2}
    numbers = {v.name: 0 if x == 0 else 1 for v, x in values.items()}
    for place in moved:
        replaced = substituted(place, values, lambda name, i: table[i])
        assert value(replaced, {"k": 0}) == value(place, numbers)
