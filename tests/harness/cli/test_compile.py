"""`lfombench compile`: what a solver becomes, and what is said where it becomes nothing."""

from __future__ import annotations

import pytest

from tests.commands import lfombench

LINEAR = "linear_transformer: {preconditioner: full, depth: 2}"


@pytest.mark.parametrize("form", ["unrolled", "looped"])
def test_the_program_stands_beside_the_lines_that_it_came_from(form):
    done = lfombench("compile", LINEAR, "--form", form)
    assert done.returncode == 0, done.stderr
    assert 'extern "C" void run(' in done.stdout
    for line in ("return self.curvature(w) - self.b", "mean = mean + (1 - b1) * (g - mean)"):
        assert f": {line}" in done.stdout
    assert "statements unrolled" in done.stdout
    assert ("f0(" in done.stdout) == (form == "looped")


@pytest.mark.parametrize("form", ["unrolled", "looped"])
def test_the_kernel_of_a_gpu_is_shown_likewise(form):
    done = lfombench("compile", LINEAR, "--gpu", "--form", form)
    assert done.returncode == 0, done.stderr
    assert 'extern "C" __global__ void' in done.stdout
    for line in ("return self.curvature(w) - self.b", "mean = mean + (1 - b1) * (g - mean)"):
        assert f": {line}" in done.stdout


def test_a_classical_method_is_shown_as_it_is_tested():
    done = lfombench("compile", "conjugate_gradient: {depth: 3}", "--task", "linear_regression: {d: 20, n: 40}")
    assert done.returncode == 0, done.stderr
    assert "conjugate_gradient.py:" in done.stdout
    assert "adam.py" not in done.stdout
    assert "Chosen: looped." in done.stdout


def test_an_unknown_solver_is_an_error_with_the_nearest_word():
    done = lfombench("compile", "memformr: {depth: 2}")
    assert done.returncode == 2
    assert "did you mean 'memformer'" in done.stderr


def test_what_has_no_rule_is_named_with_its_line(tmp_path, monkeypatch):
    (tmp_path / "sorting.py").write_text(
        "from dataclasses import dataclass\n"
        "from typing import ClassVar\n"
        "from lfombench.solvers import Method\n\n\n"
        "@dataclass(frozen=True, kw_only=True)\n"
        "class Sorting(Method):\n"
        "    family: ClassVar[str] = 'classical'\n\n"
        "    def iterates(self, params, problem):\n"
        "        w = problem.start()\n"
        "        yield w\n"
        "        for _ in range(self.depth):\n"
        "            w = problem.gradient(w).sort(-2).values\n"
        "            yield w\n"
    )
    monkeypatch.chdir(tmp_path)
    done = lfombench("compile", "sorting:Sorting: {depth: 1}")
    assert done.returncode == 1
    assert "the operation aten.sort" in done.stderr
    assert "sorting.py:14: w = problem.gradient(w).sort(-2).values" in done.stderr
