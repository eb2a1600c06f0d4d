"""Charts along an axis say its values as the tables do."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from lfombench.analysis.axis import Along, Point
from lfombench.analysis.pages import axis_sheet
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


def test_a_table_along_an_axis_says_what_is_real():
    """At 1 `a` is better for certain; at 2 the two are not told apart, but `b` lost a seed and does not lead."""
    noise = np.random.default_rng(0).normal(size=(2, 5))

    def point(solver, x, losses):
        return Point("", x, solver, solver, "learned", 1, dict(enumerate(losses)), "t", 3.0)

    points = [point("a", 1, noise[0] - 9), point("b", 1, noise[1]), point("a", 2, noise[0])]
    points += [point("b", 2, [*(noise[0, :4] + 0.001 * noise[1, :4]), math.inf])]
    sheet = axis_sheet(Along("noise", 2, points, []), "")
    rows = {line.cells[0][0].text: [[part.text for part in cell] for cell in line.cells[1:3]] for line in sheet.lines}
    half = stats.t.ppf(0.975, 4) * noise[0].std(ddof=1) / math.sqrt(5)
    assert rows["a"] == [[f"{noise[0].mean() - 9:.2f}*", f"±{half:.2f}"], [f"{noise[0].mean():.2f}*", f"±{half:.2f}"]]
    assert rows["b"][1][-1] == "1 of 5 lost"
    assert "*" not in rows["b"][0][0] + rows["b"][1][0]


def test_intervals_along_an_axis_of_an_extended_sweep_are_confidence_sequences():
    plain = Point("", 1, "a", "a", "learned", 1, dict(enumerate([0.0, 0.1, 0.2, 0.3, 0.4])), "t")
    widths = [
        Along("noise", 2, [replace(plain, extended=extended)], []).rows("")[0]["half_widths"][1]
        for extended in (False, True)
    ]
    assert widths[1] > 1.5 * widths[0]
