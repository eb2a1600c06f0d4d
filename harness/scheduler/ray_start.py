"""Start Ray on this machine: in a folder of its own where its sockets fit, with patience, or not at all."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..awake import Awake
from ..compiler import cache
from ..errors import UserError
from . import forked
from .private import keep_token_private, on_loopback

SOCKET = 103  # bytes that the path of a socket may have: 107 on Linux, 103 on macOS
BELOW = len("/session_2026-11-27_22-30-00_123456_4194304/sockets/plasma_store")  # what Ray puts below its folder
PARENTS = ("/tmp", "/var/tmp", "/dev/shm")  # where a temporary folder may be, if not where the system says
TRIES = 2
CACHE = "LFOMBENCH_CACHE"
PRESTART = "RAY_prestart_worker_first_driver"  # workers that nobody has asked for, and that are no forks
PATIENCE = 120.0  # seconds that the machine is given to start, four times as long as Ray would
STORE = 256 << 20  # bytes for what goes between processes
LEAST_STORE = 80 << 20  # less Ray refuses


class NoRay(UserError):
    """Ray cannot start on this machine; the message says why, and what can be tried."""


def start(cpus: int, fork_server: str = "") -> str:
    """Start Ray on this machine with so many CPUs; the folder that it keeps its files in, to be deleted when it ends.

    fork_server: the name of the one that its workers come from; empty where they cannot be forked. Raises NoRay.
    """
    import ray

    forks = {forked.NAME: fork_server, PRESTART: "0"} if fork_server else {}
    said = ""
    for _ in range(TRIES):
        folder = own_folder()
        try:
            keep_token_private()
            with _patient(), _beyond_the_terminal(), _one_cache(), on_loopback(), _variables(forks):
                ray.init(
                    address="local",
                    runtime_env=forked.runtime_env(sys.executable),
                    num_cpus=cpus,
                    include_dashboard=False,
                    object_store_memory=store_size(),
                    _temp_dir=folder,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                )
            return folder
        except KeyboardInterrupt:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        except Exception as error:  # of many kinds, Exception itself among them, whatever ails the machine
            said = f"{type(error).__name__}: {error}".splitlines()[0]
            with contextlib.suppress(Exception):
                ray.shutdown()
            said += _last_words(folder)
            shutil.rmtree(folder, ignore_errors=True)
    raise NoRay(f"Ray cannot start here: {said}. Try --workers 0, which needs no Ray; lfombench doctor looks further")


def own_folder() -> str:
    """A new folder whose path is short enough for sockets in it. Raises NoRay where there is none."""
    refused = []
    for parent in dict.fromkeys((tempfile.gettempdir(), *PARENTS)):
        if len(os.fsencode(parent)) + len("/lfombench-12345678") + BELOW > SOCKET:
            refused.append(f"{parent} is too long a path for sockets")
            continue
        try:
            folder = tempfile.mkdtemp(prefix="lfombench-", dir=parent)
            probe = Path(folder) / "probe"
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(str(probe))
            probe.unlink()
            return folder
        except OSError as error:
            refused.append(f"{parent}: {error.strerror or error}")
    raise NoRay(f"Ray cannot start here: no folder for its sockets ({'; '.join(refused)}). Try TMPDIR=/a/short/folder")


def store_size() -> int:
    """Bytes for what goes between processes: less where the memory that they share is small, as in containers."""
    try:
        free = shutil.disk_usage("/dev/shm").free
    except OSError:
        return STORE
    return max(LEAST_STORE, min(STORE, free // 2))


@contextlib.contextmanager
def _patient() -> Iterator[None]:
    """Let a machine that is busy take its time: Ray gives up when its own node is not known after 30 s."""
    from ray._private import services

    asked: Callable[..., Any] | None = getattr(services, "get_node", None)
    if asked is None:  # another Ray
        yield
        return
    waited = Awake(PATIENCE / 2)  # Ray's own question takes half a minute

    def get_node(*arguments: Any, **options: Any) -> Any:
        while True:
            try:
                return asked(*arguments, **options)
            except RuntimeError:
                if waited() > PATIENCE:
                    raise
                time.sleep(0.2)

    services.get_node = get_node
    try:
        yield
    finally:
        services.get_node = asked


@contextlib.contextmanager
def _beyond_the_terminal() -> Iterator[None]:
    """Let Ray's processes not end with the terminal, or all would die before packs could stop where they can go on."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN) if _is_main() else None
    try:
        yield
    finally:
        if _is_main():
            signal.signal(signal.SIGHUP, before or signal.SIG_DFL)


@contextlib.contextmanager
def _one_cache() -> Iterator[None]:
    """Let all workers here keep compiled programs where this process does, a temporary folder too."""
    known: dict[str, str] = {}
    with contextlib.suppress(OSError):
        known[CACHE] = str(cache.folder())
    with _variables(known):
        yield


@contextlib.contextmanager
def _variables(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables for what starts meanwhile."""
    before = {name: os.environ[name] for name in values if name in os.environ}
    os.environ |= values
    try:
        yield
    finally:
        for name in values:
            del os.environ[name]
        os.environ |= before


def _is_main() -> bool:
    """Whether this is the thread that may set handlers of signals."""
    return threading.current_thread() is threading.main_thread()


def _last_words(folder: str) -> str:
    """What Ray's own processes have said last of an error, in brackets; nothing where they said nothing."""
    lines = []
    for name in ("gcs_server.out", "gcs_server.err", "raylet.out", "raylet.err"):
        with contextlib.suppress(OSError):
            text = (Path(folder) / "session_latest" / "logs" / name).read_text(errors="replace")
            lines += [line for line in text.splitlines() if " E " in line or " C " in line or "rror" in line]
    return f" ({lines[-1].strip()[:300]})" if lines else ""
