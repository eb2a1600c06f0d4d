"""How far a run is."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from lfombench.harness.scheduler.progress import Progress


def test_the_time_left_follows_the_work_that_is_left(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("lfombench.harness.scheduler.progress.time", SimpleNamespace(monotonic=lambda: clock[0]))
    progress = Progress("any")
    progress.planned(jobs=30, done=0, to_run=30, work=20.0, estimate=10.0)
    assert progress.left == 10.0
    clock[0] = 11.0
    assert progress.left is None, "a guess was wrong, and there is no other yet"
    assert progress.as_json()["seconds_left"] is None
    clock[0] = 0.0
    for clock[0] in (10.0, 20.0):
        progress.took(10, (), 10.0)  # as slow again as planned
    assert progress.left == 0.0
    progress.planned_anew(work=20.0, estimate=15.0)  # what waited turns out to be longer
    assert progress.left == pytest.approx(15.0)
    clock[0] = 30.0
    progress.took(5, (), 10.0)
    assert progress.left == pytest.approx(10.0, rel=0.05)
