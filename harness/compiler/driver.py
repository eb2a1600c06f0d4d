"""Load kernels and launch them, by NVIDIA's driver; PyTorch owns the memory and the streams."""

from __future__ import annotations

import ctypes
from typing import Any

import torch

from . import nvrtc
from .cpp import NoCompiler
from .device import KernelLayout

OTHERS = 8  # of so many places a launch beside others leaves them one
NEWER = "NVRTC may be newer than the driver: update the driver, or install an NVRTC of its version"
REMEDIES = {  # by the end of the driver's name of an error
    "INVALID_IMAGE": NEWER,
    "UNSUPPORTED_PTX_VERSION": NEWER,
    "NO_BINARY_FOR_GPU": "NVRTC may not match the driver: update the driver",
    "DEVICE_UNAVAILABLE": "another process has it for itself: nvidia-smi shows which",
    "SYSTEM_DRIVER_MISMATCH": "the driver was updated under the system: restart the machine",
}
LOST = (  # ends of errors after which a process cannot use the device any more
    *("ILLEGAL_ADDRESS", "MISALIGNED_ADDRESS", "INVALID_ADDRESS_SPACE", "INVALID_PC", "ILLEGAL_INSTRUCTION", "ASSERT"),
    *("LAUNCH_FAILED", "LAUNCH_TIMEOUT", "HARDWARE_STACK_ERROR", "ECC_UNCORRECTABLE", "CONTEXT_IS_DESTROYED"),
)


class Cuda:
    """A CUDA device that PyTorch sees, by its number."""

    def __init__(self, index: int) -> None:
        """Raises NoCompiler where the driver cannot be reached."""
        try:
            from cuda.bindings import driver  # type: ignore[import-untyped]
        except ImportError as error:
            raise NoCompiler(f"NVIDIA's cuda-bindings are not here: pip install 'lfombench[cuda]' ({error})") from error
        self.driver, self.index = driver, index
        self.properties = torch.cuda.get_device_properties(index)
        self.context = _checked(driver.cuDevicePrimaryCtxRetain(_checked(driver.cuDeviceGet(index), driver)), driver)

    def load(self, source: str, layout: KernelLayout) -> Kernel:
        """The kernel of a source, compiled for this device. Raises NoCompiler."""
        code, figures = nvrtc.compile(source, (self.properties.major, self.properties.minor))
        driver = self.driver
        _checked(driver.cuCtxSetCurrent(self.context), driver)
        module = _checked(driver.cuModuleLoadData(code), driver)
        function = _checked(driver.cuModuleGetFunction(module, b"run"), driver)
        shared = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        _checked(driver.cuFuncSetAttribute(function, shared, layout.shared), driver)
        asked = driver.cuOccupancyMaxActiveBlocksPerMultiprocessor(function, layout.threads, layout.shared)
        resident = _checked(asked, driver)
        if not resident:
            raise NoCompiler(f"a block of {layout.threads} threads with {layout.shared} bytes does not fit this device")
        return Kernel(self, module, function, layout, figures, resident)


class Kernel:
    """A kernel in a device's memory, and how many of its blocks the device holds."""

    def __init__(
        self, device: Cuda, module: Any, function: Any, layout: KernelLayout, figures: nvrtc.Figures, resident: int
    ) -> None:
        self.device, self.module, self.function, self.layout, self.figures = device, module, function, layout, figures
        self.resident = resident  # blocks that a multiprocessor holds at once

    @property
    def blocks(self) -> int:
        """Blocks that a launch may have at once. On a stream beside others one of OTHERS places is left to these: what
        they start is short, and would else wait until the launch ends.
        """
        places = self.resident * self.device.properties.multi_processor_count
        alone = torch.cuda.current_stream(self.device.index) == torch.cuda.default_stream(self.device.index)
        return places if alone else places - places // OTHERS

    def launch(self, grid: int, arguments: ctypes.Structure) -> None:
        """Start it on so many blocks, after what PyTorch's current stream has to do before."""
        driver = self.device.driver
        _checked(driver.cuCtxSetCurrent(self.device.context), driver)
        pointers = (ctypes.c_void_p * 1)(ctypes.addressof(arguments))
        stream = torch.cuda.current_stream(self.device.index).cuda_stream
        started = driver.cuLaunchKernel(
            *(self.function, grid, 1, 1, self.layout.threads, 1, 1, self.layout.shared, stream),
            *(ctypes.addressof(pointers), 0),
        )
        _checked(started, driver)


def _checked(result: tuple[Any, ...], driver: Any) -> Any:
    """The value of a call of the driver.

    Raises torch.OutOfMemoryError for want of memory, torch.AcceleratorError where the device is lost, else NoCompiler.
    """
    status, *values = result
    if status == driver.CUresult.CUDA_SUCCESS:
        return values[0] if values else None
    _, text = driver.cuGetErrorString(status)
    said = f"the CUDA driver: {text.decode() if text else status.name}"
    if status == driver.CUresult.CUDA_ERROR_OUT_OF_MEMORY:
        raise torch.OutOfMemoryError(said)
    if status.name.endswith(LOST):
        raise torch.AcceleratorError(said)
    remedy = next((words for end, words in REMEDIES.items() if status.name.endswith(end)), "")
    raise NoCompiler(f"{said}; {remedy}" if remedy else said)
