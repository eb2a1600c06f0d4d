"""Sweeps made in Python, and combinations that are impossible."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from lfombench.harness import PROTOCOLS, Job, Sweep, load
from lfombench.harness.errors import SpecError
from lfombench.harness.spec.labels import label
from lfombench.solvers import ConjugateGradient
from lfombench.tasks import LinearRegression
from tests.builders import TOKENS, parsed


def test_python_callers_get_the_same_strictness():
    with pytest.raises(SpecError, match="depth: got 0"):
        Job.of(
            task=LinearRegression(d=2, n=3), solver=ConjugateGradient(depth=0), protocol=PROTOCOLS["rigorous"], seed=0
        )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("sweep = 3", "defines no `sweep`"),
        ("1 / 0", "cannot be run: ZeroDivisionError: division by zero"),
        ("def", "cannot be run: SyntaxError"),
        ("from lfombench.harness import Sweep\nsweep = Sweep(name='x', tasks=[], solvers=[])", "tasks: none given"),
    ],
)
def test_a_python_sweep_that_cannot_be_meant(tmp_path, text, says):
    (tmp_path / "sweep.py").write_text(text)
    with pytest.raises(SpecError, match=re.escape(says)):
        load(str(tmp_path / "sweep.py"))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"tasks": [LinearRegression(d=2, n=3, spectrum=(1.0,))]}, "tasks: spectrum: got 1 numbers, needs d = 2"),
        ({"solvers": [ConjugateGradient(depth=0)]}, "depth: got 0"),
        ({"protocols": [replace(PROTOCOLS["published"], withheld=3)]}, "conjugate_gradient of depth 1 on"),
        ({"tests": [LinearRegression(d=3, n=3)]}, "has d = 3"),
        ({"seeds": [1, 1]}, "seeds: 1 is given twice"),
        ({"seeds": 3}, "must be a list of seeds, such as range(3)"),
        ({"protocols": ["rigorous"]}, "must be a Protocol, such as PROTOCOLS['rigorous']"),
        ({"solvers": [{"conjugate_gradient": {"depth": 1}}]}, "must be a Solver"),
    ],
)
def test_a_sweep_made_in_python_is_checked_as_a_whole(changes, says):
    parts = {"name": "x", "tasks": [LinearRegression(d=2, n=3)], "solvers": [ConjugateGradient(depth=1)]}
    with pytest.raises(SpecError, match=re.escape(says)):
        Sweep(**(parts | changes))


def test_what_makes_no_sense_is_skipped_where_the_sweep_says_so(tmp_path):
    sweep = parsed(tmp_path, TOKENS + "skip: true\n")
    assert [label(job.solver) for job in sweep.jobs()] == ["linear_transformer(preconditioner=full)"]
    [skipped] = sweep.skipped
    assert "each of n = 20 examples" in skipped.reason
    with pytest.raises(SpecError, match="no combination is possible"):
        parsed(tmp_path, TOKENS.replace("  - linear_transformer: {preconditioner: full, depth: 2}\n", "skip: true\n"))
