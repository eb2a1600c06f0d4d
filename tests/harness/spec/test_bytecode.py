"""Classes that no file defines by name: made by a function, in a notebook."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass, replace

import pytest

from lfombench.harness import PROTOCOLS
from lfombench.harness.errors import SpecError
from lfombench.harness.spec import fingerprint
from lfombench.harness.spec.job import Case
from lfombench.harness.spec.sweep import Sweep
from lfombench.solvers import ConjugateGradient
from lfombench.tasks import LinearRegression

QUICK = replace(PROTOCOLS["rigorous"], steps=2, batch=4, learning_rates=(0.1,), test_prompts=64)
TASK = LinearRegression(d=2, n=3)


def made(factor: float):
    """A class that a function makes."""

    @dataclass(frozen=True, kw_only=True)
    class Made(ConjugateGradient):
        def start(self):
            return factor

    return Made


Bound = made(2.0)


def test_a_class_made_by_a_function_goes_by_its_name_in_the_module(caplog):
    with caplog.at_level(logging.WARNING, "lfombench"):
        parts = fingerprint.code_parts(Case(task=TASK, solver=Bound(depth=1), protocol=QUICK))
    assert {"test_bytecode.py:Bound", "test_bytecode.py:made"} <= parts.keys()
    assert not caplog.records


def test_a_class_without_source_is_known_by_its_bytecode_and_a_warning_says_so(caplog):
    """In a notebook, or where a function keeps it to itself."""
    with caplog.at_level(logging.WARNING, "lfombench"):
        solvers = [made(factor)(depth=1) for factor in (3.0, 3.0, 4.0)]
        first, same, other = (fingerprint.code(Case(task=TASK, solver=s, protocol=QUICK)) for s in solvers)
    assert first == same != other
    [text, *_] = [record.getMessage() for record in caplog.records]
    assert "test_bytecode.made.<locals>.Made cannot be read" in text
    assert "known by its bytecode" in text
    assert f"than {sys.version_info[0]}.{sys.version_info[1]}" in text


def test_two_classes_of_one_name_are_refused():
    """Their jobs would be one to a store."""
    with pytest.raises(SpecError, match=r"two classes are named .*Made"):
        Sweep(name="x", tasks=[TASK], solvers=[made(3.0)(depth=1), made(4.0)(depth=1)], protocols=[QUICK])
