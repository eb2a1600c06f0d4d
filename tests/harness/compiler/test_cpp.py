"""The C++ compiler: absent, broken, and used once for each program."""

from __future__ import annotations

import logging
import subprocess
import sys
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import pytest
import torch

from lfombench.harness.compiler import cpp
from lfombench.harness.compiler.cpp import Native, NoCompiler
from lfombench.harness.training import train
from lfombench.harness.training.training_step import training
from lfombench.solvers import (
    LinearTransformer,
    Method,
)
from tests.programs import CPU, pack


def test_packs_of_one_program_are_traced_once_and_a_class_defined_anew_is_another():
    """As in a notebook, where a cell with a solver is run again after a change of its equations."""
    runs: list[float] = []

    def descent(factor):
        @dataclass(frozen=True, kw_only=True)
        class Descent(Method):
            family: ClassVar[Literal["learned"]] = "learned"

            def init(self, d, n, normal):
                return {"rate": normal(self.depth)}

            def iterates(self, params, problem):
                w = problem.start()
                runs.append(factor)
                yield w
                for l in range(self.depth):
                    w = w - factor * params["rate"][..., l, None, None] * problem.gradient(w)
                    yield w

        return Descent(depth=2)

    def loss(solver, jobs):
        step, job, state, key = training(pack(solver, jobs), CPU)
        runs.clear()  # its contract was checked
        return Native(step, job, state, key)(0, 1)["loss"]

    first = descent(1.0)
    once = loss(first, 2)
    assert runs
    assert torch.equal(loss(first, 3)[..., :2], once)
    assert not runs
    again = loss(descent(3.0), 2)
    assert set(runs) == {3.0}
    assert not torch.equal(again, once)


def test_without_a_compiler_the_numbers_are_the_same(monkeypatch, caplog):
    given = pack(LinearTransformer(depth=1, preconditioner="scalar"), batch=1999)
    expected = train.run(replace(given, engine="eager"), CPU)[0].losses
    monkeypatch.setenv("PATH", "")
    with caplog.at_level(logging.WARNING):
        assert torch.equal(train.run(given, CPU)[0].losses, expected)
    assert "no C++ compiler (g++ or clang++) on the path" in caplog.text


def test_a_compiler_that_fails_is_told(monkeypatch, tmp_path):
    broken = tmp_path / "g++"
    broken.write_text("#!/bin/sh\necho out of order >&2; exit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("LFOMBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CXX", str(broken))
    with pytest.raises(NoCompiler, match="out of order"):
        cpp.compiled("int main() {}")
    assert not list((tmp_path / "cache").iterdir())


def test_code_is_compiled_once_for_all_processes(monkeypatch, tmp_path):
    monkeypatch.setenv("LFOMBENCH_CACHE", str(tmp_path))
    source = 'extern "C" void run(void**, const long* n) { *(long*)n = 7; }'
    cpp.compiled(source)
    [library] = tmp_path.iterdir()
    stamp = library.stat().st_mtime_ns
    again = f"from lfombench.harness.compiler.cpp import compiled; compiled({source!r})"
    subprocess.run([sys.executable, "-c", again], check=True)
    assert [path.stat().st_mtime_ns for path in tmp_path.iterdir()] == [stamp]
