"""Plain words of YAML: what is a number, and what only looks like one."""

from __future__ import annotations

import math

import pytest

from lfombench.harness.errors import SpecError
from lfombench.harness.spec.loader import load
from lfombench.harness.spec.yaml_source import read_text
from tests.builders import SMALL


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[(word, word) for word in ("1:30", "1:30:00", "1_000", "0b11", "yes", "No", "on", "OFF", "y", "2024-01-01")],
        *[(word, word) for word in ("1__0.5", "1e", "0x", "+", ".", "=", "<<", "٣", "²", "1,000")],
        *[
            ("10", 10),
            ("0", 0),
            ("-0", 0),
            ("+7", 7),
            ("0x10", 16),
            ("0o10", 8),
            ("1.5", 1.5),
            (".5", 0.5),
            ("1.", 1.0),
        ],
        *[("1e3", 1000.0), ("1e-3", 1e-3), ("-1.5E+2", -150.0), (".inf", math.inf), ("-.Inf", -math.inf)],
        *[("true", True), ("False", False), ("~", None), ("null", None), ("", None)],
    ],
)
def test_plain_words_are_those_of_yaml_1_2(text, value):
    found = read_text(f"x: {text}", "here").data["x"]
    assert (type(found), found) == (type(value), value)


def test_the_number_that_is_none():
    assert math.isnan(read_text("x: .nan", "here").data["x"])


@pytest.mark.parametrize(("text", "meant"), [("010", 10), ("-007", -7), ("00", 0), ("08", 8)])
def test_a_number_with_a_leading_zero_could_mean_two_and_is_refused(text, meant):
    with pytest.raises(SpecError, match=rf"here, line 2: '{text}' .* write {meant}, or quotes"):
        read_text(f"a: 1\nx: {text}", "here")
    assert read_text(f"x: '{text}'", "here").data["x"] == text


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("seeds: 2", "seeds: 1_000", 'line 5, seeds: got "1_000", must be a number of seeds'),
        ("seeds: 2", "seeds: 1:30", 'line 5, seeds: got "1:30", must be a number of seeds'),
        ("seeds: 2", "seeds: [1, 1]", "line 5, seeds: 1 is given twice"),
        ("seeds: 2", "seeds: [1, 2.5]", "line 5, seeds: got [1, 2.5], must be"),
        ("seeds: 2", "seeds: 2\nskip: yes", 'line 6, skip: got "yes", must be true or false'),
        ("steps: 20", "steps: 1_0", 'line 3, protocol[0].steps: got "1_0", must be'),
        ("d: 3", "d: 0o7_1", 'line 7, tasks[0].linear_regression.d: got "0o7_1", must be'),
    ],
)
def test_what_is_no_number_is_told_once_and_where(tmp_path, old, new, said):
    path = tmp_path / "mine.yaml"
    path.write_text(SMALL.replace(old, new, 1))
    with pytest.raises(SpecError) as error:
        load(str(path))
    assert str(error.value).startswith(f"{path}, {said}")
    assert str(error.value).count("line ") == 1
