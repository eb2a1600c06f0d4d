"""Where time goes: spans, their parts and shares, and the trace."""

from __future__ import annotations

import json

import pytest

from lfombench.harness.spans import PARTS, Span, chrome, shares_of_time, span, split, taken


def test_spans_and_their_shares():
    taken("before")
    with span("train"):
        pass
    [noted] = taken("pack")
    assert (noted.name, noted.pack) == ("train", "pack")
    assert taken("pack") == []
    parts = split([Span("train", 10.0, 14.0), Span("test", 14.0, 15.0)], [0.25, 0.25, 0.5, 0.0])
    assert [s.name for s in parts] == [*PARTS, "test"]
    assert parts[2].end - parts[2].begin == pytest.approx(2.0)
    found = shares_of_time([*parts, Span("commit", 15.0, 17.0)], workers=2, seconds=4.0)
    assert found["idle"] == pytest.approx(8.0 - 5.0)
    assert json.loads(chrome(parts))["traceEvents"][0]["args"]["name"] == "driver"
