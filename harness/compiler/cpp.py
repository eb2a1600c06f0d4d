"""Compile a lowered step with the C++ compiler of this machine, cache the library, and call it on a pack's tensors."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from .lower import Lowered, lower
from .step import Step, Tensors
from .trace import Shapes

FLAGS = (
    *("-std=c++17", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"),
    *("-shared", "-fPIC", "-w"),
)
THOROUGHLY, QUICKLY = "-O2", "-O1"  # -O1 saves a third of the compile time, for programs that run a second or two


class NoCompiler(Exception):
    """There is no C++ compiler on the path, or it failed."""


class Native:
    """A step as machine code: one call runs all jobs, trials and steps without returning to Python."""

    name = "compiled"

    def __init__(self, step: Step, job: Tensors, state: Tensors, key: Tensor, *, unrolled: bool = True) -> None:
        self.step, self.job, self.state, self.key = step, job, state, key
        self.lowered = lowered(step, shapes(job, 1), shapes(state, 2), unrolled)
        self.function = compiled(self.lowered.source, THOROUGHLY if unrolled else QUICKLY)

    def __call__(self, first: int, count: int, begin: int = 0) -> Tensors:
        """Run steps first .. first + count - 1 on the prompts from `begin` on; update the state in place.

        Returns the records, `steps trials jobs ...`.
        """
        jobs, trials = len(self.key), len(next(iter(self.state.values()))) if self.state else 1
        records = {
            name: torch.empty(self.lowered.shape(name, trials, jobs, count), dtype=dtype)
            for name, (dtype, _) in self.lowered.records.items()
        }
        scratch = torch.empty(self.lowered.scratch + 64, dtype=torch.uint8)
        tensors = [*self.job.values(), *self.state.values(), *records.values(), scratch, self.key]
        assert all(x.is_contiguous() and x.device.type == "cpu" for x in tensors)
        pointers = (ctypes.c_void_p * len(tensors))(*(x.data_ptr() for x in tensors))
        self.function(pointers, (ctypes.c_int64 * 5)(jobs, trials, first, count, begin))
        return records


def shapes(tensors: Tensors, leading: int) -> Shapes:
    """The shapes of one member's tensors: those of the pack without so many leading axes."""
    return tuple((name, tuple(x.shape[leading:]), x.dtype) for name, x in tensors.items())


@functools.lru_cache(maxsize=256)
def lowered(step: Step, job: Shapes, state: Shapes, unrolled: bool) -> Lowered:
    """The lowered step, cached for all packs with the same program, as a trace takes half a second."""
    return lower(step, job, state, unrolled=unrolled)


@functools.lru_cache(maxsize=256)
def compiled(source: str, optimisation: str = THOROUGHLY) -> ctypes._CFuncPtr:
    """The function `run` of a program, from the cache on disk if this machine has compiled the same source before.

    optimisation: a flag of the compiler. Raises NoCompiler.
    """
    compiler = shutil.which(os.environ.get("CXX", "")) or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        raise NoCompiler("no C++ compiler (g++ or clang++) on the path")
    name = hashlib.blake2b(
        "\n".join([source, compiler, optimisation, *FLAGS, machine()]).encode(), digest_size=16
    ).hexdigest()
    library = cache() / f"{name}.so"
    if not library.is_file():
        library.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=library.parent) as folder:
            text, output = Path(folder) / "step.cpp", Path(folder) / "step.so"
            text.write_text(source)
            process = subprocess.run(
                [compiler, optimisation, *FLAGS, "-o", output, text], capture_output=True, text=True
            )
            if process.returncode:
                raise NoCompiler(f"{compiler} failed: {process.stderr[-2000:]}")
            output.replace(library)
    function = ctypes.CDLL(str(library)).run
    function.restype = None
    return function


def cache() -> Path:
    """The folder of compiled steps, which the variable LFOMBENCH_CACHE overrides."""
    override = os.environ.get("LFOMBENCH_CACHE")
    return Path(override) if override else Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "lfombench"


@functools.cache
def machine() -> str:
    """What the machine code depends on: the model of the processor and the instructions it supports."""
    try:
        text = Path("/proc/cpuinfo").read_text()
        return "".join(sorted({line for line in text.splitlines() if line.startswith(("flags", "model name"))}))
    except OSError:
        return platform.processor() + platform.machine()
