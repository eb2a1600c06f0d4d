"""Compile a lowered step with the machine's C++ compiler, keep it, and call it on a pack's tensors."""

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

from .lower import Lowered, Shapes, lower
from .step import Step, Tensors

FLAGS = (
    *("-std=c++17", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"),
    *("-shared", "-fPIC", "-w"),
)
THOROUGHLY, QUICKLY = "-O2", "-O1"  # for a program that runs for a second or two the second saves a third of making it


class NoCompiler(Exception):
    """There is no C++ compiler here, or it fails."""


class Native:
    """A step as machine code: all jobs, rates and steps of a call without coming back to Python."""

    name = "compiled"

    def __init__(self, step: Step, job: Tensors, state: Tensors, key: Tensor, *, straight: bool = True) -> None:
        self.step, self.job, self.state, self.key = step, job, state, key
        self.lowered = lowered(step, shapes(job, 1), shapes(state, 2), straight)
        self.function = compiled(self.lowered.source, THOROUGHLY if straight else QUICKLY)

    def __call__(self, first: int, count: int, begin: int = 0) -> Tensors:
        """Steps first .. first + count - 1, of prompts from `begin` on; changes the state, gives records by step."""
        jobs, rates = len(self.key), len(next(iter(self.state.values()))) if self.state else 1
        records = {
            name: torch.empty(self.lowered.shape(name, rates, jobs, count), dtype=dtype)
            for name, (dtype, _) in self.lowered.records.items()
        }
        scratch = torch.empty(self.lowered.scratch + 64, dtype=torch.uint8)
        tensors = [*self.job.values(), *self.state.values(), *records.values(), scratch, self.key]
        assert all(x.is_contiguous() and x.device.type == "cpu" for x in tensors)
        pointers = (ctypes.c_void_p * len(tensors))(*(x.data_ptr() for x in tensors))
        self.function(pointers, (ctypes.c_int64 * 5)(jobs, rates, first, count, begin))
        return records


def shapes(tensors: Tensors, packed: int) -> Shapes:
    """Of a pack's tensors for one member: without so many axes in front."""
    return tuple((name, tuple(x.shape[packed:]), x.dtype) for name, x in tensors.items())


@functools.lru_cache(maxsize=256)
def lowered(step: Step, job: Shapes, state: Shapes, straight: bool) -> Lowered:
    """The C++, once for all packs of a program: a trace takes half a second."""
    return lower(step, job, state, straight=straight)


@functools.lru_cache(maxsize=256)
def compiled(source: str, optimised: str = THOROUGHLY) -> ctypes._CFuncPtr:
    """The function, from the cache where this machine has compiled it before."""
    compiler = shutil.which(os.environ.get("CXX", "")) or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        raise NoCompiler("no C++ compiler (g++ or clang++) on the path")
    name = hashlib.blake2b(
        "\n".join([source, compiler, optimised, *FLAGS, machine()]).encode(), digest_size=16
    ).hexdigest()
    library = cache() / f"{name}.so"
    if not library.is_file():
        library.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=library.parent) as folder:
            text, made = Path(folder) / "step.cpp", Path(folder) / "step.so"
            text.write_text(source)
            done = subprocess.run([compiler, optimised, *FLAGS, "-o", made, text], capture_output=True, text=True)
            if done.returncode:
                raise NoCompiler(f"{compiler} failed: {done.stderr[-2000:]}")
            made.replace(library)
    function = ctypes.CDLL(str(library)).run
    function.restype = None
    return function


def cache() -> Path:
    """The folder of compiled steps; LFOMBENCH_CACHE names another."""
    given = os.environ.get("LFOMBENCH_CACHE")
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "lfombench"


@functools.cache
def machine() -> str:
    """What machine code depends on here: the processor and what it can do."""
    try:
        text = Path("/proc/cpuinfo").read_text()
        return "".join(sorted({line for line in text.splitlines() if line.startswith(("flags", "model name"))}))
    except OSError:
        return platform.processor() + platform.machine()
