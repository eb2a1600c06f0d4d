"""Titles of solvers on boards."""

from __future__ import annotations

import pytest

from lfombench.analysis.titles import natural, title


@pytest.mark.parametrize(
    ("labels", "titles"),
    [
        (["ridge"], ["all"]),
        (["ridge", "lfom(tied=True)"], ["all: ridge", "all: lfom(tied=True)"]),
        (
            ["mixture(experts=[noise=1, noise=2] #ab12)", "mixture(experts=[noise=1, noise=2] #ab12, start=zero)"],
            ["all", "all: start=zero"],
        ),
        (["mixture(experts=[a(b=[1])] #ab12, by=x)", "mixture(experts=[c] #cd34, by=x)"], ["all: a(b=[1])", "all: c"]),
        (["mixture(experts=[a] #ab12)", "mixture(experts=[c] #cd34, by=x)"], ["all: a", "all: c, by=x"]),
    ],
)
def test_titles_tell_solvers_of_one_name_apart(labels, titles):
    assert [title("all", labels, label) for label in labels] == titles


def test_numbers_in_labels_are_sorted_as_numbers():
    labels = ["t(n=10)", "t(n=3)", "t(n=20, noise=0.5)", "t(n=20, noise=0.25)", "t", "s(n=100)", "t(n=3, x2=1)"]
    assert sorted(labels, key=natural) == [
        *("s(n=100)", "t", "t(n=3)", "t(n=3, x2=1)", "t(n=10)", "t(n=20, noise=0.25)", "t(n=20, noise=0.5)")
    ]
