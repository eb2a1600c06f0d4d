"""What of this machine is in the way: each check finds something, judges it, and knows a remedy."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import logging
import os
import platform
import resource
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from ..unexpected import versions

Verdict = Literal["ok", "look", "bad"]  # look: it works, but worse than it could


@dataclass(frozen=True)
class Finding:
    """What a check found."""

    check: str
    verdict: Verdict
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.check}: {self.found}{f'. {self.remedy}' if self.remedy else ''}"

    def as_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        return asdict(self)


Check = Callable[[], Finding]


def findings(*, start_ray: bool, out: str | None = None) -> Iterator[Finding]:
    """What every check finds, one after the other. out: a store to look at too."""
    checks: list[Check] = [software, system, memory, home, token, temporary, shared_memory, open_files, processes]
    checks += [terminal, cache, compiler, gpus]
    checks += [ray] if start_ray else []
    yield from found([*named(checks), *([("store", functools.partial(store, out))] if out else [])])


def named(checks: Iterable[Check]) -> list[tuple[str, Check]]:
    """Checks with their names."""
    return [(getattr(check, "__name__", "").replace("_", " "), check) for check in checks]


def found(checks: Iterable[tuple[str, Check]]) -> Iterator[Finding]:
    """What checks find, one after the other. One that fails is a finding too."""
    for name, check in checks:
        try:
            yield check()
        except Exception as error:  # whatever the machine is like
            yield Finding(name, "bad", f"{type(error).__name__}: {error}")


def troubles() -> list[Finding]:
    """What may be why something failed to start."""
    return [one for one in findings(start_ray=False) if one.verdict != "ok"]


def software() -> Finding:
    """What is installed, and in which versions."""
    found = versions()
    if "no " in found:
        return Finding("software", "bad", found, "Install lfombench anew: a part is missing")
    return Finding("software", "ok", found)


def system() -> Finding:
    """Whether the operating system is one that lfombench runs on."""
    if sys.platform == "linux":
        return Finding("system", "ok", "Linux")
    if sys.platform == "darwin":
        return Finding("system", "look", "macOS", "Tested on Linux only; drivers of one store wait 15 s for each other")
    return Finding("system", "bad", platform.system(), "lfombench runs on Linux and macOS; on Windows, in WSL")


def memory() -> Finding:
    """Cores, and memory as control groups limit it."""
    from ..scheduler import limits
    from ..scheduler.devices import cores

    size = min(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), limits.memory())
    found = f"{cores()} cores, {size / 2**30:.1f} GiB of memory"
    if size < 2e9:
        return Finding("memory", "look", found, "A worker needs some 500 MB: --workers 0 needs least")
    return Finding("memory", "ok", found)


def home() -> Finding:
    """Where the user is at home."""
    path = os.environ.get("HOME", "")
    if not path or not os.access(path, os.W_OK):
        return Finding("home", "look", f"{path or 'none'} cannot be written to", "Set HOME to a folder that is yours")
    return Finding("home", "ok", path)


def token() -> Finding:
    """Whether others on this machine can read the token of Ray, with which they could run code as this user."""
    from ..scheduler.private import readable_by_others, token_file

    file = token_file()
    if file.exists() and readable_by_others(file):
        return Finding("token", "look", f"{file} can be read by others", f"chmod 600 {file}")
    return Finding("token", "ok", f"{file} is yours alone" if file.exists() else "none yet")


def temporary() -> Finding:
    """The folder for temporary files."""
    from ..compiler.cache import NO_CODE

    path = tempfile.gettempdir()
    free = shutil.disk_usage(path).free
    found = f"{path}, {free / 2**20:,.0f} MiB free"
    if free < 100 << 20:
        return Finding("temporary folder", "bad", found, "Make room, or set TMPDIR to a folder with 100 MiB")
    if os.statvfs(path).f_flag & NO_CODE:
        return Finding(
            "temporary folder", "look", f"{found}; lets no code run", "LFOMBENCH_CACHE may name one that does"
        )
    return Finding("temporary folder", "ok", found)


def shared_memory() -> Finding:
    """The memory that Ray's processes share."""
    path = Path("/dev/shm")
    if not path.is_dir():
        return Finding("shared memory", "look", "no /dev/shm", "Ray uses temporary files instead, which are slower")
    free = shutil.disk_usage(path).free
    if free < 256 << 20:
        return Finding("shared memory", "look", f"{free / 2**20:,.0f} MiB free", "In Docker: --shm-size=1g")
    return Finding("shared memory", "ok", f"{free / 2**20:,.0f} MiB free")


def open_files() -> Finding:
    """How many files a process may have open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 1024:
        return Finding("open files", "look", f"{soft} at most", f"ulimit -n {min(hard, 65536)} before many workers")
    return Finding("open files", "ok", f"{soft:,} at most")


def processes() -> Finding:
    """Whether this user sees others' processes."""
    if not Path("/proc/self/stat").exists():
        return Finding("processes", "look", "no /proc", "A driver that died is noticed after 15 s, not at once")
    if not Path("/proc/1/stat").exists():
        return Finding(
            "processes", "look", "/proc hides those of others", "As without /proc, where users share a store"
        )
    return Finding("processes", "ok", "seen")


def terminal() -> Finding:
    """What can be printed."""
    encoding = getattr(sys.stdout, "encoding", None) or "none"
    if not encoding.lower().replace("-", "").startswith("utf"):
        return Finding("terminal", "look", f"encoding {encoding}", "PYTHONIOENCODING=utf-8 shows all signs")
    return Finding("terminal", "ok", f"encoding {encoding}")


def cache() -> Finding:
    """Where compiled programs are kept."""
    from ..compiler import cache as programs

    with _quiet():
        try:
            folder = programs.folder()
        except OSError as error:
            return Finding("compiled programs", "bad", str(error), "LFOMBENCH_CACHE names a folder that lets code run")
    if programs.given_up():
        return Finding(
            "compiled programs", "look", f"in {folder}: {programs.given_up()}", "LFOMBENCH_CACHE names another"
        )
    return Finding("compiled programs", "ok", str(folder))


def compiler() -> Finding:
    """Whether C++ can be compiled and run."""
    from ..compiler import cpp

    begin = time.perf_counter()
    number = (ctypes.c_int64 * 1)()
    source = 'extern "C" void run(void**, const long* n) { *(long*)n = 1; }'
    try:
        with _quiet():
            cpp.ready(source)[1](None, number)
    except cpp.NoCompiler as error:
        return Finding(
            "C++ compiler", "bad", str(error).splitlines()[0], "Install g++: without it all runs 20 times longer"
        )
    took = time.perf_counter() - begin
    if number[0] != 1:
        return Finding("C++ compiler", "bad", f"{cpp.compiler()} compiles what does not run", "CXX names another")
    return Finding("C++ compiler", "ok", f"{cpp.compiler()}, a program in {took:.1f} s")


def gpus() -> Finding:
    """GPUs that can be used."""
    import torch

    from ..scheduler.devices import gpus as usable

    names = [torch.cuda.get_device_name(gpu) for gpu in usable()]
    if names:
        return Finding("GPUs", "ok", ", ".join(names))
    if shutil.which("nvidia-smi"):
        build = torch.version.cuda or "none"
        return Finding("GPUs", "look", f"none that PyTorch can use (built for CUDA {build})", "See docs/gpu.md")
    return Finding("GPUs", "ok", "none")


def ray() -> Finding:
    """Whether Ray starts on this machine, and how long that takes."""
    from ..scheduler.on_ray import OnRay
    from ..scheduler.ray_start import NoRay

    begin = time.perf_counter()
    try:
        OnRay(workers=1).close()
    except NoRay as error:
        return Finding("Ray", "bad", str(error))
    return Finding("Ray", "ok", f"starts in {time.perf_counter() - begin:.0f} s")


def store(out: str) -> Finding:
    """Whether a store can be written at this place, and how much room there is."""
    from ..store.filesystem import local, place

    name, where = f".lfombench-doctor-{secrets.token_hex(6)}", place(out)
    folder = local(out)
    if folder and where.kind() != "folder":  # to write would make it; a prefix of a bucket is not made
        return Finding("store", "ok", f"{out} is not there yet")
    if not where.create(name, b"1") or where.create(name, b"2"):
        return Finding("store", "bad", f"{out} lets two writers make one file", "Choose another file system")
    where.delete(name)
    free = f", {shutil.disk_usage(folder).free / 2**30:,.1f} GiB free" if folder else ""
    return Finding("store", "ok", f"{out} can be written{free}")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without warnings: what they would say is a finding."""
    logger = logging.getLogger("lfombench")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
