"""The device that is measured: what it is, what it can do at best, and the tests of what only a device can show."""

from __future__ import annotations

import functools
import importlib.util
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from step import CPU

from lfombench.harness.compiler import nvrtc
from lfombench.harness.compiler.device import KernelLayout
from lfombench.harness.compiler.on_device import arguments


@dataclass(frozen=True)
class Device:
    """Where kernels run, and what loads them."""

    at: torch.device
    driver: Any
    dry: bool

    def sync(self) -> None:
        """Wait until all that was started has ended."""
        if not self.dry:
            torch.cuda.synchronize()

    @property
    def name(self) -> str:
        """Its name."""
        return "the host, played" if self.dry else torch.cuda.get_device_name()


def device(*, dry: bool) -> Device:
    """The first GPU, or the host that plays one."""
    if dry:
        from tests.device.emulated import Emulated

        return Device(CPU, Emulated(2), dry)
    from lfombench.harness.compiler.driver import Cuda

    return Device(torch.device("cuda", 0), Cuda(0), dry)


def machine(page: Any, here: Device) -> None:
    """What this is, and what it can do at best."""
    facts = [f"Python {platform.python_version()}", f"PyTorch {torch.__version__}", f"NVRTC {nvrtc.version()}"]
    if not here.dry:
        p = here.driver.properties
        asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        facts.append(f"driver {subprocess.run(asked, capture_output=True, text=True).stdout.strip()}")
        facts.append(f"{p.multi_processor_count} multiprocessors, {p.total_memory / 2**30:.0f} GiB")
        flops, bandwidth = peak(here)
        facts.append(
            f"multiply-add peak measured: {flops / 1e12:.1f} TFLOP/s in float32; copies: {bandwidth / 1e12:.2f} TB/s"
        )
    page.add(f"**{here.name}.** {'; '.join(facts)}.")


@functools.cache
def peak(here: Device) -> tuple[float, float]:
    """Operations a second of independent multiply-adds in registers; bytes a second, read and written, of a copy."""
    source = """struct Arguments { char* tensors[1]; long long numbers[5]; };
    extern "C" __global__ void run(const Arguments given) {
    float a[16]; for (int i = 0; i < 16; i++) a[i] = threadIdx.x + i;
    for (int k = 0; k < given.numbers[0]; k++) for (int i = 0; i < 16; i++) a[i] = a[i] * 0.999f + 0.001f;
    float s = 0; for (int i = 0; i < 16; i++) s += a[i];
    ((float*)given.tensors[0])[blockIdx.x * 256 + threadIdx.x] = s; }"""
    function = here.driver.load(source, KernelLayout({}, 0, 0, 256, 0))
    n, out = 20_000, torch.empty(function.blocks * 256, device=here.at)
    given = arguments(1)()
    given.tensors[:], given.numbers[:] = [out.data_ptr()], [n, 0, 0, 0, 0]
    flops = 2.0 * 16 * n * 256 * function.blocks / seconds(here, lambda: function.launch(function.blocks, given))
    a, b = (torch.empty(1 << 30, dtype=torch.uint8, device=here.at) for _ in range(2))
    return flops, 2.0 * a.numel() / seconds(here, lambda: a.copy_(b))


def seconds(here: Device, run: Callable[[], object], rounds: int = 3) -> float:
    """The median of some rounds, after one that is not counted."""
    times = []
    for _ in range(rounds + 1):
        here.sync()
        begin = time.perf_counter()
        run()
        here.sync()
        times.append(time.perf_counter() - begin)
    return statistics.median(times[1:])


class Tests:
    """The tests that are marked gpu, in processes beside this one, as they compile much."""

    def __init__(self, here: Device) -> None:
        root = Path(__file__).resolve().parent.parent
        command = [sys.executable, "-m", "pytest", "--noconftest", "-q", "-m", "gpu", "-p", "no:cacheprovider"]
        command += ["-p", "no:benchmark", "tests/device/test_gpu.py"]
        command += ["-n", "8"] if importlib.util.find_spec("xdist") else []
        self.process = None if here.dry else subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root)

    def end(self, page: Any) -> None:
        """Wait for them, and report."""
        if self.process is None:
            page.add("Tests marked gpu: not run, there is no device.")
            return
        lines = self.process.communicate()[0].strip().splitlines()
        page.add(f"Tests marked gpu: {lines[-1] if lines else 'no output'}.")
        if self.process.returncode:
            page.add("```\n" + "\n".join(line[:300] for line in lines[-150:]) + "\n```")
