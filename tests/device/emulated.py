"""Kernels on the host, by the same source: a driver that plays a device."""

from __future__ import annotations

import ctypes
import re
from dataclasses import dataclass
from pathlib import Path

from lfombench.harness.compiler import cache, cpp
from lfombench.harness.compiler.device import KernelLayout

HEADER, THREADS = (Path(__file__).parent / name for name in ("emulated.h", "emulated.cpp"))
START = """
static const Arguments* given_arguments;
extern "C" void emulate(void (*)(), int, int, int);
extern "C" void start(const Arguments* given, int blocks, int threads, int order) {
  given_arguments = given;
  emulate([] { run(*given_arguments); }, blocks, threads, order);
}
"""


@dataclass(frozen=True)
class Emulated:
    """A device with so many blocks at once. order: of its threads, 0 forwards, 1 backwards, others by chance.

    By chance, threads also pause between the calls that a kernel consists of, as warps of a device do not wait for
    each other there.
    """

    blocks: int = 2
    order: int = 0

    def load(self, source: str, layout: KernelLayout) -> Function:
        """The kernel of a source, compiled for this machine."""
        paused = re.sub(r"^((?:f\d+|draw)\(.*\);)", r"\1 emulated_pause();", source, flags=re.MULTILINE)
        name = cpp.compile(HEADER.read_text() + paused + START, THREADS.read_text())
        assert cache.read(name)
        return Function(ctypes.CDLL(str(cache.folder() / name)), layout.threads, self.blocks, self.order)


@dataclass(frozen=True)
class Function:
    """A kernel that runs on the host."""

    library: ctypes.CDLL
    threads: int
    blocks: int
    order: int

    def launch(self, grid: int, arguments: ctypes.Structure) -> None:
        """Run it, block by block."""
        self.library.start(ctypes.byref(arguments), grid, self.threads, self.order)
