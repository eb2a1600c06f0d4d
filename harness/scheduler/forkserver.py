"""A process that has imported PyTorch and this package, and forks into workers: importing takes seconds and 200 MB, and
each worker would take them for itself.

It ends with what it was started for, the Ray of a node or a run on this machine; else some minutes after the last of
its workers. Its address is a name of Linux, not a file, and it answers its own user alone.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import runpy
import secrets
import select
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

IMPORTS = "lfombench.harness.scheduler.on_ray"  # without Ray, which reads variables of a worker when it is imported
FINGERPRINT = "lfombench.harness.spec.fingerprint"
OWN = ("RAY_JOB_ID", "CUDA_VISIBLE_DEVICES", "PWD", "OLDPWD")  # variables that differ from worker to worker
LINGER = 300.0  # seconds without workers after which it ends
READ = 10.0  # seconds in which an order must have come
SIZE = struct.Struct("=Q")  # bytes of an order
CREDENTIALS = struct.Struct("=3i")  # process, user and group at the other end of a socket
OOM = Path("/proc/self/oom_score_adj")  # by which the system chooses what it kills where memory is short


def possible() -> bool:
    """Whether this system has what a fork server needs. On macOS a process that has imported much cannot be forked."""
    if sys.platform != "linux":
        return False
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):  # an older Linux, or a container that forbids it
        return False
    return True


def start(name: str, owner: int) -> subprocess.Popen[bytes]:
    """Start a fork server of a name, which ends with the process `owner`. OSError where there is one of that name."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0{name}")
        listener.listen(1024)
        fd = listener.fileno()
        return subprocess.Popen(
            [sys.executable, "-P", "-m", __name__, str(fd), str(owner)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[fd],
            process_group=0,
            env=shared(os.environ),
        )


class OfThisRun:
    """The fork server of a run on this machine, until it is closed; without a name where there can be none."""

    def __init__(self) -> None:
        self.name = f"lfombench-{secrets.token_hex(16)}" if possible() else ""
        self.process = start(self.name, os.getpid()) if self.name else None

    def close(self) -> None:
        """End it; its workers live on."""
        if self.process:
            self.process.kill()
            self.process.wait()


def shared(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables that all forks have: without the folder that each is in, where `submit` has put a sweep's code."""
    found = {name: value for name, value in variables.items() if name not in OWN}
    path = [part for part in found.pop("PYTHONPATH", "").split(os.pathsep) if part not in ("", os.getcwd())]
    found |= {"PYTHONPATH": os.pathsep.join(path)} if path else {}
    return {"OMP_NUM_THREADS": "1"} | found  # each has one core: what they compute with reads this when it is imported


def user(link: socket.socket) -> int:
    """The user at the other end."""
    return int(CREDENTIALS.unpack(link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size))[1])


def serve(listener: socket.socket, owner: int) -> list[str]:
    """Fork whenever it is asked for, until the process `owner` ends or nobody has asked for long; then end this
    process. It returns in forks alone, with their words.
    """
    try:
        ends = os.pidfd_open(owner)
    except ProcessLookupError:
        sys.exit()
    importlib.import_module(IMPORTS)
    importlib.import_module(FINGERPRINT).read_engine()
    gc.collect()
    gc.freeze()  # so that no fork writes to, and thus copies, what is here
    workers: dict[int, int] = {}  # their processes, by what tells their ends
    while True:
        awaited: list[socket.socket | int] = [listener, ends, *workers]
        ready, _, _ = select.select(awaited, [], [], None if workers else LINGER)
        if not ready or ends in ready:
            sys.exit()
        for fd in workers.keys() & {*ready}:
            os.waitpid(workers.pop(fd), 0)
            os.close(fd)
        if listener in ready:
            link, _ = listener.accept()
            with link:
                fork = _fork(link)
            if isinstance(fork, list):
                for fd in (listener.detach(), ends, *workers):
                    os.close(fd)
                return fork
            if fork:
                workers[os.pidfd_open(fork)] = fork


def _fork(link: socket.socket) -> int | list[str] | None:
    """Take an order and fork: the fork's process, or in the fork its words. None where nobody waits for it."""
    outputs: list[int] = []
    process = None
    try:
        link.settimeout(READ)
        if user(link) != os.getuid():
            return None
        head, found, _, _ = socket.recv_fds(link, SIZE.size, 3)
        outputs += found
        (size,) = SIZE.unpack(head)
        order = b""
        while len(order) < size:
            order += (more := link.recv(1 << 16))
            if not more:
                raise ValueError("an order that is cut off")
        words, variables, folder, nice, oom = json.loads(order)
        process = os.fork()
    except (OSError, struct.error, TypeError, ValueError):
        pass
    if process != 0:
        for fd in outputs:
            os.close(fd)
        return process
    if not _awaited(link):
        os._exit(0)
    os.setpgid(0, 0)  # Ray ends workers with their groups
    with contextlib.suppress(OSError):  # where it may not be more pressing than this process
        os.nice(nice - os.nice(0))
    with contextlib.suppress(OSError):
        OOM.write_text(oom)
    for to, fd in enumerate(outputs):
        os.dup2(fd, to)
        os.close(fd)
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(folder)
    sys.path += [part for part in variables.get("PYTHONPATH", "").split(os.pathsep) if part and part not in sys.path]
    return list(words)


def _awaited(link: socket.socket) -> bool:
    """Whether whoever asked still waits: it may have become the worker itself meanwhile."""
    try:
        link.sendall(b"1")
        return bool(link.recv(1))
    except OSError:
        return False


if __name__ == "__main__":
    sys.argv = serve(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))
    sys.path.insert(0, str(Path(sys.argv[0]).parent))
    runpy.run_path(sys.argv[0], run_name="__main__")
