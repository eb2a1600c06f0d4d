"""Kernels for NVIDIA's devices: that they compile, what is said where they do not, and what the driver is asked for."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from lfombench.harness.compiler import cache, nvrtc, on_device
from lfombench.harness.compiler.cpp import NoCompiler
from lfombench.harness.compiler.device import KernelLayout
from lfombench.harness.compiler.driver import Cuda, Kernel
from lfombench.harness.compiler.known import shapes
from lfombench.harness.compiler.lower import Form
from lfombench.harness.compiler.on_device import OnDevice
from lfombench.harness.scheduler.faults import fault
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


@pytest.mark.parametrize(("solver", "form", "capability"), some(LEARNED, 15))
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


def test_what_cannot_be_kept_is_no_compiler(empty, monkeypatch):
    def full(name: str, content: bytes) -> Path:
        raise OSError("no space left")

    monkeypatch.setattr(cache, "write", full)
    with pytest.raises(NoCompiler, match="cannot be kept: no space left"):
        nvrtc.compile(SMALL, SM_90)


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


# The driver.


class Arguments(ctypes.Structure):
    """Those of a kernel of one tensor."""

    _fields_ = [("tensors", ctypes.c_void_p * 1), ("numbers", ctypes.c_int64 * 5)]


class Status(IntEnum):
    """What a call ends with."""

    CUDA_SUCCESS = 0
    CUDA_ERROR_INVALID_VALUE = 1
    CUDA_ERROR_OUT_OF_MEMORY = 2
    CUDA_ERROR_INVALID_IMAGE = 200
    CUDA_ERROR_ILLEGAL_ADDRESS = 700


class FakeDriver(ModuleType):
    """NVIDIA's driver: notes what it is asked for, and fails where it is told to."""

    CUresult = Status
    CUfunction_attribute = SimpleNamespace(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES=8)

    def __init__(self, failing: str = "", status: Status = Status.CUDA_ERROR_INVALID_VALUE, resident: int = 2) -> None:
        super().__init__("cuda.bindings.driver")
        self.asked: list[tuple[Any, ...]] = []
        self.failing, self.status = failing, status
        self.words = 0  # of a kernel's arguments
        self.answers = {
            "cuDeviceGet": "device",
            "cuDevicePrimaryCtxRetain": "context",
            "cuModuleLoadData": "module",
            "cuModuleGetFunction": "function",
            "cuOccupancyMaxActiveBlocksPerMultiprocessor": resident,
        }

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("cu"):
            raise AttributeError(name)

        def call(*given: Any) -> tuple[Any, ...]:
            self.asked.append((name, *given))
            if name == self.failing:
                return (self.status,)
            if name == "cuLaunchKernel":
                self.launched(*given)
            return Status.CUDA_SUCCESS, *([self.answers[name]] if name in self.answers else [])

        return call

    def cuGetErrorString(self, status: Status) -> tuple[Status, bytes]:
        return Status.CUDA_SUCCESS, f"what {status.name} means".encode()

    def launched(self, *given: Any) -> None:
        """Read the kernel's arguments, as a device does."""
        pointer = ctypes.c_void_p.from_address(given[9]).value
        self.arguments = list((ctypes.c_int64 * self.words).from_address(pointer))

    def of(self, name: str) -> list[tuple[Any, ...]]:
        return [given for called, *given in map(list, self.asked) if called == name]


@dataclass
class Machine:
    """A device that is not there."""

    driver: FakeDriver
    compiled: list[tuple[str, tuple[int, int]]] = field(default_factory=list)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes one, of three multiprocessors."""

    def make(**options: Any) -> Machine:
        made = Machine(FakeDriver(**options))

        def compile(source: str, capability: tuple[int, int]) -> tuple[bytes, nvrtc.Figures]:
            made.compiled.append((source, capability))
            return b"code", nvrtc.Figures(40, 0)

        properties = SimpleNamespace(major=9, minor=0, multi_processor_count=3)
        monkeypatch.setitem(sys.modules, "cuda.bindings.driver", made.driver)
        monkeypatch.setattr(sys.modules["cuda.bindings"], "driver", made.driver, raising=False)
        monkeypatch.setattr(nvrtc, "compile", compile)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties)
        for name in ("current_stream", "default_stream"):
            monkeypatch.setattr(torch.cuda, name, lambda index: SimpleNamespace(cuda_stream=1000 + index))
        return made

    return make


LAYOUT = KernelLayout({}, 0, 96, 96, 70_000)


def test_a_kernel_is_loaded_with_the_shared_memory_that_it_takes(machine):
    made = machine()
    loaded = Cuda(2).load("source", LAYOUT)
    assert made.compiled == [("source", (9, 0))]
    assert made.driver.asked == [
        ("cuDeviceGet", 2),
        ("cuDevicePrimaryCtxRetain", "device"),
        ("cuCtxSetCurrent", "context"),
        ("cuModuleLoadData", b"code"),
        ("cuModuleGetFunction", "module", b"run"),
        ("cuFuncSetAttribute", "function", 8, 70_000),
        ("cuOccupancyMaxActiveBlocksPerMultiprocessor", "function", 96, 70_000),
    ]
    assert isinstance(loaded, Kernel)
    assert loaded.blocks == 2 * 3


def test_a_launch_beside_others_leaves_them_some_of_the_device(machine, monkeypatch):
    """On a stream of its own, as packs in threads have one."""
    machine(resident=4)
    monkeypatch.setattr(torch.cuda, "default_stream", lambda index: SimpleNamespace(cuda_stream=0))
    assert Cuda(2).load("source", LAYOUT).blocks == 11


def test_a_launch_is_on_the_current_stream_with_a_grid_of_its_members(machine):
    made = machine()
    step, job, state, key = trained(CHOSEN[0])()
    run = OnDevice(step, job, state, key, "unrolled", Cuda(1))
    layout = run.program.layout
    tensors = len(job) + len(state) + len(layout.records) + 2  # scratch, and the keys
    made.driver.words = tensors + 5
    records = run(5, 3)
    (given,) = made.driver.of("cuLaunchKernel")
    assert given[:9] == ["function", 4, 1, 1, layout.threads, 1, 1, layout.shared, 1001]
    assert given[10] == 0
    pointers = [x.data_ptr() for x in (*job.values(), *state.values(), *records.values())]
    assert made.driver.arguments[: tensors - 2] == pointers
    assert made.driver.arguments[tensors - 1 :] == [key.data_ptr(), 2, 2, 5, 3, 0]


def test_a_grid_is_no_larger_than_what_the_device_holds_and_long_runs_are_several_launches(machine, monkeypatch):
    made = machine(resident=1)
    run = OnDevice(*trained(CHOSEN[0], renew=None)(), "unrolled", Cuda(0))
    monkeypatch.setattr(on_device, "LAUNCH", 500)
    run(0, 1200)
    launched = made.driver.of("cuLaunchKernel")
    assert [given[1] for given in launched] == [3] * 3


@pytest.mark.parametrize(
    "name",
    [
        *("cuDeviceGet", "cuDevicePrimaryCtxRetain", "cuCtxSetCurrent", "cuModuleLoadData", "cuModuleGetFunction"),
        *("cuFuncSetAttribute", "cuOccupancyMaxActiveBlocksPerMultiprocessor", "cuLaunchKernel"),
    ],
)
def test_an_error_of_the_driver_is_told_in_its_words(name, machine):
    machine(failing=name)
    with pytest.raises(NoCompiler, match=r"^the CUDA driver: what CUDA_ERROR_INVALID_VALUE means$"):
        Cuda(0).load("source", LAYOUT).launch(1, Arguments())


@pytest.mark.parametrize("name", ["cuModuleLoadData", "cuLaunchKernel"])
def test_what_leaves_the_device_of_no_use_is_a_fault_of_the_device(name, machine):
    """Found by whoever asks the driver next, which is not the one that it befell."""
    machine(failing=name, status=Status.CUDA_ERROR_ILLEGAL_ADDRESS)
    with pytest.raises(torch.AcceleratorError, match="the CUDA driver: what CUDA_ERROR_ILLEGAL_ADDRESS") as found:
        Cuda(0).load("source", LAYOUT).launch(1, Arguments())
    assert fault(found.value).kind == "device"


def test_a_device_without_memory_is_out_of_memory(machine):
    machine(failing="cuModuleLoadData", status=Status.CUDA_ERROR_OUT_OF_MEMORY)
    with pytest.raises(torch.OutOfMemoryError, match="the CUDA driver: what CUDA_ERROR_OUT_OF_MEMORY means"):
        Cuda(0).load("source", LAYOUT)


def test_an_nvrtc_that_is_newer_than_the_driver_is_named_as_the_cause(machine):
    machine(failing="cuModuleLoadData", status=Status.CUDA_ERROR_INVALID_IMAGE)
    with pytest.raises(NoCompiler, match="means; NVRTC may be newer than the driver: update the driver"):
        Cuda(0).load("source", LAYOUT)


def test_a_block_that_does_not_fit_is_no_compiler(machine):
    machine(resident=0)
    with pytest.raises(NoCompiler, match="a block of 96 threads with 70000 bytes does not fit this device"):
        Cuda(0).load("source", LAYOUT)


def test_without_the_drivers_bindings_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(NoCompiler, match=r"cuda-bindings are not here: pip install 'lfombench\[cuda\]'"):
        Cuda(0)
