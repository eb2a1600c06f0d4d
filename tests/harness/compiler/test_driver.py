"""What the driver is asked for, and what is said of its errors: by a driver that notes what it is asked."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass, field
from enum import IntEnum
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from lfombench.harness.compiler import nvrtc, on_device
from lfombench.harness.compiler.cpp import NoCompiler
from lfombench.harness.compiler.device import KernelLayout
from lfombench.harness.compiler.driver import Cuda, Kernel
from lfombench.harness.compiler.on_device import OnDevice
from lfombench.harness.scheduler.faults import fault
from lfombench.solvers import LinearTransformer
from tests.device.steps import trained

try:
    nvrtc.library()
except NoCompiler as error:
    pytest.skip(str(error), allow_module_level=True)


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


MODEL = LinearTransformer(depth=2, preconditioner="full")
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
    step, job, state, key = trained(MODEL)()
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
    run = OnDevice(*trained(MODEL, renew=None)(), "unrolled", Cuda(0))
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
