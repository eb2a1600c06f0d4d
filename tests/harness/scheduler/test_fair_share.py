"""Sweeps that share a cluster: who may have how many workers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lfombench.harness.scheduler.fair_share import PATIENCE, Claim, FairShare, Register, fair

CLAIM = {"sweep": "x", "priority": 0, "wants": {}, "has": {}, "room": {}}


@pytest.mark.parametrize(
    ("wants", "room", "shares"),
    [
        ({"a": (0, 100)}, 8, {"a": 8}),
        ({"a": (0, 100), "b": (0, 100)}, 8, {"a": 4, "b": 4}),
        ({"a": (0, 100), "b": (0, 2)}, 8, {"a": 6, "b": 2}),
        ({"a": (0, 3), "b": (0, 2)}, 8, {"a": 3, "b": 2}),
        ({"a": (0, 100), "b": (1, 100)}, 8, {"a": 0, "b": 8}),
        ({"a": (0, 100), "b": (1, 5), "c": (0, 100)}, 8, {"a": 2, "b": 5, "c": 1}),
        ({"a": (0, 9), "b": (0, 9), "c": (0, 9)}, 2, {"a": 1, "b": 1, "c": 0}),  # c waits in the queue
        ({"a": (0, 0), "b": (0, 9)}, 2, {"a": 0, "b": 2}),
        ({"a": (0, 9)}, 0, {"a": 0}),
    ],
)
def test_shares_by_hand(wants, room, shares):
    assert fair(wants, room) == shares


@given(
    st.dictionaries(st.text("abcdef", min_size=1), st.tuples(st.integers(-2, 2), st.integers(0, 50)), max_size=6),
    st.integers(0, 60),
)
def test_no_share_can_grow_but_at_the_cost_of_one_that_is_smaller_or_goes_first(wants, room):
    """Which is what max-min fair means; and nobody gets more than it wants, all together more than there is."""
    shares = fair(wants, room)
    assert all(0 <= shares[name] <= number for name, (_, number) in wants.items())
    assert sum(shares.values()) == min(room, sum(number for _, number in wants.values()))
    for name, (priority, number) in wants.items():
        if shares[name] < number:
            for other, (its, _) in wants.items():
                if its == priority:
                    assert shares[other] <= shares[name] + 1
                elif its < priority:
                    assert shares[other] == 0


def test_one_that_falls_silent_counts_no_more(monkeypatch):
    now = 0.0
    monkeypatch.setattr("lfombench.harness.awake.time.monotonic", lambda: now)
    register = Register()
    register.tell("a", dict(CLAIM))
    assert register.tell("b", dict(CLAIM)).keys() == {"a", "b"}
    for _ in range(int(PATIENCE)):
        now += 1.5
        register.tell("b", dict(CLAIM))
    assert register.tell("b", dict(CLAIM)).keys() == {"b"}
    assert register.tell("b", None).keys() == set()


def test_what_another_version_says_is_understood_as_far_as_it_goes():
    assert Claim.of(CLAIM | {"colour": "blue"}) == Claim("x", 0, {}, {}, {})


def test_a_run_that_may_use_a_part_alone_shares_the_whole():
    """Four nodes of a hundred: those who want the rest are no reason to leave two of them."""
    mine = FairShare(None, "mine", 0)
    mine.others = {"another": Claim("theirs", 0, {"cpu": 96}, {"cpu": 96}, {"cpu": 100})}
    assert mine.allowed("cpu", 4, 4) == 4
