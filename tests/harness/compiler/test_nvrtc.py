"""Kernels for NVIDIA's devices: that they compile, and what is said where they do not."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lfombench.harness.compiler import cache, nvrtc, on_device
from lfombench.harness.compiler.cpp import NoCompiler
from lfombench.harness.compiler.device import KernelLayout
from lfombench.harness.compiler.known import shapes
from lfombench.harness.compiler.lower import Form
from lfombench.harness.spec.labels import label
from lfombench.solvers import GdPlusPlus, LinearTransformer, Memformer
from tests.device.steps import LEARNED, TESTED, Given, step_of_test, trained

try:
    nvrtc.library()
except NoCompiler as error:
    pytest.skip(str(error), allow_module_level=True)

SM_80, SM_90, SM_100 = (8, 0), (9, 0), (10, 0)
SMALL = 'extern "C" __global__ void run(float* x) { x[threadIdx.x] *= 2; }'
CHOSEN = [
    LinearTransformer(depth=2, preconditioner="full"),
    Memformer(depth=2, memory="cgd", preconditioner="full"),
    GdPlusPlus(depth=2),
]


@dataclass(frozen=True)
class Compiling:
    """A device that only compiles."""

    capability: tuple[int, int]
    kind: str = "ptx"

    def load(self, source: str, layout: KernelLayout) -> Compiled:
        code, figures = nvrtc.compile(source, self.capability, kind=self.kind)
        return Compiled(code, figures)


@dataclass(frozen=True)
class Compiled:
    """A kernel's code."""

    code: bytes
    figures: nvrtc.Figures
    blocks: int = 1

    def launch(self, grid: int, arguments: ctypes.Structure) -> None:
        raise AssertionError


def compiled(given: Given, form: Form, capability: tuple[int, int], kind: str = "ptx") -> Any:
    """The code of a step's kernel."""
    step, job, state, _ = given
    return on_device.program(step, shapes(job, 1), shapes(state, 2), form, Compiling(capability, kind)).function


def some(solvers: list[Any], every: int) -> list[Any]:
    """All of them in the unrolled form for one kind of device, and some for others and in the other form."""
    return [
        *(pytest.param(s, "unrolled", SM_90, id=label(s)) for s in solvers),
        *(pytest.param(s, "looped", SM_90, id=f"looped {label(s)}") for s in solvers[::every]),
        *(pytest.param(s, "unrolled", SM_80, id=f"8.0 {label(s)}") for s in solvers[1::every]),
        *(pytest.param(s, "unrolled", SM_100, id=f"10.0 {label(s)}") for s in solvers[2::every]),
    ]


@pytest.mark.parametrize(("solver", "form", "capability"), some(LEARNED[::2], 8))  # the emulation has all
def test_training_steps_compile(solver, form, capability):
    code = compiled(trained(solver)(), form, capability).code
    assert f".target sm_{capability[0]}{capability[1]}".encode() in code
    assert b".entry run(" in code


@pytest.mark.parametrize(("solver", "form", "capability"), some(TESTED, 15))
def test_test_steps_compile(solver, form, capability):
    assert b".entry run(" in compiled(step_of_test(solver)(), form, capability).code


@pytest.mark.parametrize("solver", CHOSEN, ids=label)
def test_machine_code_says_how_many_registers_it_takes(solver):
    found = compiled(trained(solver, batch=256)(), "unrolled", SM_90, "cubin")
    assert found.code.startswith(b"\x7fELF")
    assert 0 < found.figures.registers <= 255


# What goes wrong.


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new cache."""
    monkeypatch.setenv("LFOMBENCH_CACHE", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("capability", [(3, 5), (9, 9), (77, 0)])
def test_a_device_that_nvrtc_does_not_know_is_named(capability, empty):
    major, minor = capability
    with pytest.raises(NoCompiler, match=rf"does not know compute capability {major}\.{minor}, only .*9\.0"):
        nvrtc.compile(SMALL, capability)
    assert not list(empty.iterdir())


@pytest.mark.parametrize("kind", ["ptx", "cubin"])
def test_an_error_in_a_source_is_told_and_not_kept(kind, empty):
    with pytest.raises(NoCompiler, match=r'NVRTC failed: step.cu\(1\): error.*"y" is undefined'):
        nvrtc.compile(SMALL.replace("x[", "y["), SM_90, kind=kind)
    assert not list(empty.iterdir())


@pytest.mark.parametrize("kind", ["ptx", "cubin"])
@pytest.mark.parametrize(
    "damage",
    [lambda x: x[: len(x) // 2], lambda x: b"", lambda x: x[:50] + bytes([x[50] ^ 1]) + x[51:]],
    ids=["half", "empty", "one bit"],
)
def test_a_damaged_entry_of_the_cache_is_compiled_again(damage, kind, empty, monkeypatch):
    count, compile = [], nvrtc._compiled

    def counting(*given: Any) -> Any:
        count.append(given)
        return compile(*given)

    monkeypatch.setattr(nvrtc, "_compiled", counting)
    expected = nvrtc.compile(SMALL, SM_90, kind=kind)
    path = empty / nvrtc.name_of(SMALL, SM_90, kind)
    whole = path.read_bytes()
    assert nvrtc.compile(SMALL, SM_90, kind=kind) == expected
    assert len(count) == 1
    path.write_bytes(damage(whole))
    assert nvrtc.compile(SMALL, SM_90, kind=kind) == expected
    assert len(count) == 2
    assert path.read_bytes() == whole


def test_entries_of_the_cache_are_told_apart():
    given = [(SMALL, SM_90, "cubin"), (SMALL, SM_90, "ptx"), (SMALL, SM_80, "cubin"), (SMALL + " ", SM_90, "cubin")]
    assert len({nvrtc.name_of(*one) for one in given}) == len(given)


def test_what_cannot_be_kept_is_compiled_all_the_same(empty, monkeypatch):
    def full(name: str, content: bytes) -> Path:
        raise OSError("no space left")

    kept, _ = nvrtc.compile(SMALL, SM_90)
    for path in empty.iterdir():
        path.unlink()
    monkeypatch.setattr(cache, "write", full)
    assert nvrtc.compile(SMALL, SM_90)[0] == kept
    assert not list(empty.iterdir())


def _without_its_library() -> SimpleNamespace:
    def version() -> None:
        raise RuntimeError("libnvrtc.so is not here")

    return SimpleNamespace(nvrtc=SimpleNamespace(nvrtcVersion=version))


@pytest.mark.parametrize(
    ("bindings", "said"),
    [(None, "import of cuda.bindings halted"), (_without_its_library(), "libnvrtc.so is not here")],
    ids=["no bindings", "no library"],
)
def test_without_nvrtc_it_is_said_what_to_install(bindings, said, monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda.bindings", bindings)
    nvrtc.library.cache_clear()
    try:
        with pytest.raises(NoCompiler, match=rf"NVRTC is not here \({said}.*\): pip install 'lfombench\[cuda\]'"):
            nvrtc.library()
    finally:
        nvrtc.library.cache_clear()
