"""Compile C++ for this machine, and load what was compiled."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from . import cache

FLAGS = (
    *("-std=c++17", "-O2", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"),
    *("-fPIC", "-w"),
)


PROCESSOR = ("flags", "model name", "Features", "CPU ", "isa", "uarch", "cpu\t")  # x86; ARM; RISC-V; POWER
TRIES = 3  # for a program that is gone when it is to be loaded


class NoCompiler(Exception):
    """There is no C++ compiler on the path, or it failed, or what it made cannot be loaded."""


def compiler() -> str:
    """The path of the C++ compiler: CXX, g++ or clang++. Raises NoCompiler."""
    found = shutil.which(os.environ.get("CXX", "")) or shutil.which("g++") or shutil.which("clang++")
    if found is None:
        raise NoCompiler("no C++ compiler (g++ or clang++) on the path")
    return found


def toolchain() -> str:
    """A digest of what machine code depends on besides its source: compiler, flags and processor. Raises NoCompiler."""
    path = compiler()
    status = Path(path).resolve().stat()
    text = "\n".join([path, str(status.st_size), str(status.st_mtime_ns), *FLAGS, machine()])
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def name_of(source: str, shared: str = "") -> str:
    """The name of the cache's entry for a program. Raises NoCompiler."""
    digest = hashlib.blake2b("\n".join([toolchain(), shared, source]).encode(), digest_size=16)
    return f"{digest.hexdigest()}.so"


def compile(source: str, shared: str = "") -> str:
    """Compile a program, unless the cache has it; returns the name of its entry. Raises NoCompiler.

    shared: the source of what it is linked with, which is compiled once for all programs that share it.
    """
    name = name_of(source, shared)
    if cache.read(name) is None:
        with _no_compiler("compiled programs cannot be kept"):
            cache.folder()  # before what takes seconds
            cache.write(name, _compiled(source, "-shared", [_object(shared)] if shared else []))
    return name


def ready(source: str, shared: str = "") -> tuple[str, ctypes._CFuncPtr]:
    """Compile a program, unless the cache has it: the name of its entry, and its function `run`. Raises NoCompiler."""
    for _ in range(TRIES):
        name = compile(source, shared)
        function = load(name)
        if function is not None:
            return name, function
    raise NoCompiler("a compiled program is gone from the cache")


def _object(source: str) -> bytes:
    """The object file of a source, from the cache if that has it."""
    name = f"{name_of(source).removesuffix('.so')}.o"
    content = cache.read(name)
    if content is None:
        content = _compiled(source, "-c")
        cache.write(name, content)
    return content


def _compiled(source: str, kind: str, objects: Sequence[bytes] = ()) -> bytes:
    """What the compiler makes of a source and the object files that it is linked with."""
    with tempfile.TemporaryDirectory(prefix="lfombench-") as folder:
        text, output = Path(folder) / "step.cpp", Path(folder) / "step.out"
        text.write_text(source)
        linked = [Path(folder) / f"{i}.o" for i in range(len(objects))]
        for path, content in zip(linked, objects, strict=True):
            path.write_bytes(content)
        command = [compiler(), *FLAGS, kind, "-o", *map(str, (output, text, *linked))]
        process = subprocess.run(command, capture_output=True, text=True, errors="replace")
        if process.returncode or not output.is_file():
            said = process.stderr[-2000:].strip() or f"it said nothing and ended with {process.returncode}"
            raise NoCompiler(f"{command[0]} failed: {said}")
        return output.read_bytes()


def load(name: str) -> ctypes._CFuncPtr | None:
    """The function `run` of a compiled program; None where the cache does not have it, or has it in a folder from which
    it cannot be run, so that another one takes its place. Raises NoCompiler.
    """
    if cache.read(name) is None:
        return None  # until it is compiled: callers keep functions, not that there is none
    with _no_compiler("a compiled program cannot be loaded"):
        path = cache.folder() / name
        try:
            function = ctypes.CDLL(str(path)).run
        except OSError as error:
            cache.refuse(path.parent, error)
            cache.folder()
            return None
    function.restype = None
    return function


@contextlib.contextmanager
def _no_compiler(what: str) -> Iterator[None]:
    """Whatever the system refuses, as NoCompiler."""
    try:
        yield
    except (OSError, AttributeError) as error:
        raise NoCompiler(f"{what}: {error}") from error


@functools.cache
def machine() -> str:
    """What the machine code depends on: the model of the processor and the instructions it supports."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() + platform.machine()
    return platform.machine() + "".join(sorted({line for line in text.splitlines() if line.startswith(PROCESSOR)}))
