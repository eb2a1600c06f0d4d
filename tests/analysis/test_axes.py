"""Charts along an axis say its values as the tables do."""

from __future__ import annotations

import re

import pytest

from lfombench.analysis.shifts import heat
from lfombench.analysis.transfer import Matrix


@pytest.mark.parametrize(
    ("values", "shown"), [((2.000038360735759, 16.0), ["2", "16"]), (("sparse", "dense"), ["dense", "sparse"])]
)
def test_values_of_a_heat_map_have_three_digits(values, shown):
    means = {(train, test): -1.0 for train in values for test in values}
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", heat(Matrix("solver", 2, "condition", means)))
    labels = [text for text in texts if "at condition" not in text and text != "\N{MINUS SIGN}1.00"]
    assert sorted(set(labels)) == sorted(shown)
    assert len(labels) == 4
