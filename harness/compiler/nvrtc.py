"""Compile CUDA C++ for a device, which need not be here, by NVIDIA's NVRTC."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import re
from dataclasses import dataclass
from typing import Any

from . import cache
from .cpp import NoCompiler

REPORT = re.compile(r"Used (\d+) registers|(\d+) bytes spill (stores|loads)")
WARNINGS = b"--display-error-number", b"-diag-suppress=161,177,550"  # of what is not used, and of others' pragmas


@dataclass(frozen=True)
class Figures:
    """What the assembler says of a kernel: a thread's registers, and the bytes that it moves for want of them."""

    registers: int
    spilled: int


@functools.cache
def library() -> Any:
    """NVRTC's binding. Raises NoCompiler where it is not installed."""
    try:
        from cuda.bindings import nvrtc  # type: ignore[import-untyped]

        nvrtc.nvrtcVersion()  # which loads the library
    except (ImportError, RuntimeError) as error:
        raise NoCompiler(f"NVRTC is not here ({error}): pip install 'lfombench[cuda]'") from error
    return nvrtc


def version() -> str:
    """The version of NVRTC. Raises NoCompiler."""
    _, major, minor = library().nvrtcVersion()
    return f"{major}.{minor}"


def compile(source: str, capability: tuple[int, int], *, kind: str = "cubin") -> tuple[bytes, Figures]:
    """Machine code of a source for a device of a compute capability, unless the cache has it. Raises NoCompiler.

    kind: cubin, or ptx, of which the assembler says nothing.
    """
    name = name_of(source, capability, kind)
    kept = cache.read(name)
    if kept is None:
        code, log = _compiled(source, capability, kind)
        found = {"stores": 0, "loads": 0, "registers": 0}
        for registers, bytes, way in REPORT.findall(log):  # of the kernel, and of functions that it calls
            what = "registers" if registers else way
            found[what] = max(found[what], int(registers or bytes))
        head = f"{found['registers']} {found['stores'] + found['loads']}\n"
        kept = head.encode() + code
        with contextlib.suppress(OSError):  # then it is for this process alone
            cache.write(name, kept)
    head_line, _, code = kept.partition(b"\n")
    return code, Figures(*map(int, head_line.split()))


def name_of(source: str, capability: tuple[int, int], kind: str = "cubin") -> str:
    """The name of the cache's entry."""
    text = "\n".join([version(), *map(str, capability), kind, source])
    return f"{hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}.{kind}"


def _compiled(source: str, capability: tuple[int, int], kind: str) -> tuple[bytes, str]:
    """What NVRTC makes of a source, and what it says."""
    nvrtc = library()
    major, minor = capability
    arch = f"{'sm' if kind == 'cubin' else 'compute'}_{major}{minor}"
    known = [int(x) for x in _checked(nvrtc.nvrtcGetSupportedArchs())]
    if 10 * major + minor not in known:
        raise NoCompiler(
            f"NVRTC {version()} does not know compute capability {major}.{minor}, only "
            f"{', '.join(f'{x // 10}.{x % 10}' for x in known)}: a newer or older lfombench[cuda] may"
        )
    options = [f"--gpu-architecture={arch}".encode(), b"--std=c++17", *WARNINGS]
    options += [b"--ptxas-options=-v"] if kind == "cubin" else []
    program = _checked(nvrtc.nvrtcCreateProgram(source.encode(), b"step.cu", 0, [], []))
    try:
        status = nvrtc.nvrtcCompileProgram(program, len(options), options)[0]
        log = bytearray(_checked(nvrtc.nvrtcGetProgramLogSize(program)))
        nvrtc.nvrtcGetProgramLog(program, log)
        said = log.decode(errors="replace").strip("\0\n ")
        if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            raise NoCompiler(f"NVRTC failed: {said[:2000] or status.name}")
        size, get = (
            (nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN)
            if kind == "cubin"
            else (nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX)
        )
        code = bytearray(_checked(size(program)))
        get(program, code)
        return bytes(code), said
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def _checked(result: tuple[Any, ...]) -> Any:
    """The value of a call. Raises NoCompiler where it failed."""
    status, *values = result
    if status.value != 0:
        raise NoCompiler(f"NVRTC failed: {status.name}")
    return values[0] if values else None
