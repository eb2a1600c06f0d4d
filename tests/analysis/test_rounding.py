"""Bounds stay true when they are rounded."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lfombench.analysis.rounding import at_least, at_most


@given(st.floats(1e-9, 1e4))
def test_a_bound_in_words_is_true_and_near(bound):
    assert float(at_least(bound)) <= bound <= float(at_most(bound))
    place = max(10.0 ** (math.floor(math.log10(bound)) - 1), 1e-12) if bound < 1 else 0.1
    assert float(at_most(bound)) - float(at_least(bound)) <= 1.001 * place


@pytest.mark.parametrize(
    ("bound", "least", "most"),
    [(24.89, "24.8", "24.9"), (0.0348, "0.034", "0.035"), (0.3, "0.29", "0.3"), (1.0, "1", "1"), (0.0, "0", "0")],
)
def test_two_digits_or_one_after_the_point(bound, least, most):
    assert (at_least(bound), at_most(bound)) == (least, most)
