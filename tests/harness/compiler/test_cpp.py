"""The C++ compiler: absent, broken, and used once for each program."""

from __future__ import annotations

import ctypes
import logging
import os
import pwd
import subprocess
import sys
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import pytest
import torch

from lfombench.harness.compiler import cache, census, cpp, native
from lfombench.harness.compiler.cpp import NoCompiler
from lfombench.harness.compiler.known import shapes
from lfombench.harness.compiler.native import Native
from lfombench.harness.training import train
from lfombench.harness.training.training_step import training
from lfombench.solvers import (
    LinearTransformer,
    Method,
)
from tests.programs import CPU, TASK, pack


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
        return Native(step, job, state, key, "unrolled")(0, 1)["loss"]

    first = descent(1.0)
    once = loss(first, 2)
    assert runs
    assert torch.equal(loss(first, 3)[..., :2], once)
    assert not runs
    again = loss(descent(3.0), 2)
    assert set(runs) == {3.0}
    assert not torch.equal(again, once)


def test_without_a_compiler_the_numbers_are_the_same(monkeypatch, caplog):
    given = pack(LinearTransformer(depth=2, preconditioner="scalar"), batch=1999, steps=75)
    expected = train.run(replace(given, engine="eager"), CPU)[0].losses
    monkeypatch.setenv("PATH", "")
    with caplog.at_level(logging.WARNING):
        assert torch.equal(train.run(given, CPU)[0].losses, expected)
    assert "no C++ compiler (g++ or clang++) on the path" in caplog.text


SOURCE = 'extern "C" void run(void**, const long* n) { *(long*)n = 7; }'


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """An empty cache, from which programs can be run."""
    if os.statvfs(tmp_path).f_flag & cache.NO_CODE:
        pytest.skip("the system's temporary folder lets no code run (noexec)")
    monkeypatch.setenv("LFOMBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo out of order >&2; exit 1", "out of order"),
        ("exit 0", "it said nothing and ended with 0"),
        ("kill -9 $$", "it said nothing and ended with -9"),
        ("printf 'caf\\351' >&2; exit 1", "caf"),
    ],
)
def test_a_compiler_that_fails_is_told(monkeypatch, tmp_path, folder, script, said):
    """As also one that does nothing and is content, one that is killed for its memory, and one that speaks Latin-1."""
    broken = tmp_path / "g++"
    broken.write_text(f"#!/bin/sh\n{script}\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    with pytest.raises(NoCompiler, match=said):
        cpp.compile(SOURCE)
    assert not list(folder.iterdir())


def test_code_is_compiled_once_for_all_processes(folder):
    name = cpp.compile(SOURCE)
    [library] = folder.iterdir()
    assert library.name == name
    stamp = library.stat().st_mtime_ns
    again = f"from lfombench.harness.compiler.cpp import compile, load; assert load(compile({SOURCE!r}))"
    subprocess.run([sys.executable, "-c", again], check=True)
    assert [path.stat().st_mtime_ns for path in folder.iterdir()] == [stamp]


def test_a_program_that_was_missed_once_is_found_when_it_is_there(folder):
    """As where an entry says that it exists, and it was lost."""
    source = SOURCE.replace("7", "8")
    assert cpp.load(cpp.name_of(source)) is None
    assert cpp.load(cpp.compile(source)) is not None


SHARED = "long seven() { return 7; }"
CALLS = 'long seven(); extern "C" void run(void**, const long* n) { *(long*)n = %s; }'


def test_what_programs_share_is_compiled_once_and_again_when_it_is_damaged(folder):
    number = (ctypes.c_int64 * 1)()
    cpp.load(cpp.compile(CALLS % "seven()", SHARED))(None, number)
    assert number[0] == 7
    [shared] = folder.glob("*.o")
    stamp = shared.stat().st_mtime_ns
    cpp.load(cpp.compile(CALLS % "seven() + 1", SHARED))(None, number)
    assert number[0] == 8
    assert shared.stat().st_mtime_ns == stamp
    shared.write_bytes(shared.read_bytes()[:200])
    cpp.load(cpp.compile(CALLS % "seven() + 2", SHARED))(None, number)
    assert number[0] == 9
    cpp.load(cpp.compile(CALLS % "seven() + 2", SHARED.replace("7", "8")))(None, number)
    assert number[0] == 10


@pytest.mark.parametrize("damage", ["cut", "changed", "open to others"])
def test_what_is_not_to_be_trusted_is_made_again(folder, caplog, damage):
    """A library cut in the middle would end the process that loads it; what others may change would run their code."""
    path = folder / cpp.compile(SOURCE)
    good = path.read_bytes()
    if damage == "open to others":
        path.chmod(0o666)
    else:
        path.write_bytes(good[:2000] if damage == "cut" else good[:500] + b"?" + good[501:])
    assert cpp.load(path.name) is None
    assert ("others can write to it" if damage == "open to others" else "it is damaged") in caplog.text
    assert cpp.compile(SOURCE) == path.name
    assert path.read_bytes() == good
    assert cpp.load(path.name) is not None


def test_a_cache_that_cannot_be_made_is_one_of_this_process(monkeypatch, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LFOMBENCH_CACHE", str(tmp_path / "file" / "cache"))
    name = cpp.compile(SOURCE)
    assert cpp.load(name) is not None
    assert caplog.text.count("for this run alone") == 1


def test_a_home_that_is_not_known_needs_none(monkeypatch, caplog):
    """Of a user without an entry, as in containers; a variable that is empty counts as not set."""

    def unknown(user):
        raise KeyError(f"getpwuid(): uid not found: {user}")

    for variable in ("LFOMBENCH_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.setenv(variable, "")
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    cache._folder.cache_clear()
    assert cache.folder().is_dir()
    assert "for this run alone" in caplog.text
    cache._folder.cache_clear()


def test_a_program_that_the_cache_knows_is_neither_run_to_count_it_nor_traced(monkeypatch, folder):
    """In another process, which finds it by what it is made of."""
    native.program.cache_clear()
    given = pack(LinearTransformer(depth=1, preconditioner="scalar"))

    counted = []

    def losses():
        step, job, state, key = training(given, CPU)
        counted.append(census.census(step, job, state))
        native.counts(step, shapes(job, 1), shapes(state, 2))
        return Native(step, job, state, key, "looped")(0, 3)["loss"]

    once = losses()
    for known in (native.program, native.counts, native.lowering_of, census.remembered):
        known.cache_clear()
    monkeypatch.setattr(native, "lowering", None)
    monkeypatch.setattr(census, "_Counted", None)
    assert torch.equal(losses(), once)
    assert counted[0] == counted[1]
    monkeypatch.undo()
    for library in folder.glob("*.so"):  # lost, or damaged, while what is known of it stands
        half = library.read_bytes()[:2000]
        library.unlink()  # this process has it loaded
        library.write_bytes(half)
        library.chmod(0o600)
    native.program.cache_clear()
    monkeypatch.setenv("LFOMBENCH_CACHE", str(folder))
    assert torch.equal(losses(), once)


def test_a_program_of_other_code_or_of_other_shapes_is_another(folder):
    """What a function makes may be made otherwise the next time, so it has no identity."""

    def identity(solver, **task):
        return training(pack(solver, task=replace(TASK, **task)), CPU)[0].identity

    @dataclass(frozen=True, kw_only=True)
    class Local(LinearTransformer):
        pass

    linear = LinearTransformer(depth=1, preconditioner="scalar")
    assert identity(linear) == identity(linear, noise=0.2)
    assert identity(linear) != identity(replace(linear, depth=2))
    assert identity(linear) != identity(linear, rotation="none")
    assert identity(Local(depth=1, preconditioner="scalar")) is None
