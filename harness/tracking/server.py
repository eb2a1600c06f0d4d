"""Serve MLflow's own UI for a store and its report, behind one loopback address."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path
from typing import IO

from ..errors import UserError
from .uris import APP, SERVER, STORE, Where

HOST = "127.0.0.1"
SILENT = 60.0  # seconds without any sign of work after which a server that starts is given up
TAIL = 12  # lines of its log that are shown where it fails


@contextlib.contextmanager
def served(out: str, where: Where, port: int) -> Iterator[Callable[[], int | None]]:
    """Run MLflow's server on a port, until the context ends. Yields, once it answers, a function that returns its exit
    code, or None while it runs. UserError where it does not start.
    """
    command = [sys.executable, "-P", "-m", "mlflow", "server", "--app-name", APP]
    command += ["--host", HOST, "--port", str(port), "--workers", "1"]
    command += ["--default-artifact-root", where.artifacts] if where.artifacts else []
    environment = os.environ | {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_BACKEND_STORE_URI": where.uri,  # its password is not for the list of processes
        STORE: out,
        SERVER: (name := secrets.token_hex()),
    }
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(
            command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            _wait(server, port, name, log)
            yield server.poll
        finally:
            _stop(server)


def free_port(wanted: int | None) -> int:
    """The port that is wanted, or the next free one from 5000; UserError where that is taken."""
    if wanted is None:
        return next(port for port in range(5000, 6000) if _free(port))
    if not _free(wanted):
        raise UserError(f"--port {wanted} is taken; leave it out for the next free one")
    return wanted


def _free(port: int) -> bool:
    """Whether no process listens on a port."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) != 0


def _stop(server: subprocess.Popen[bytes]) -> None:
    """End the server and the processes that it started: by SIGTERM, then by SIGKILL."""
    for signum in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signum)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(5)


def _wait(server: subprocess.Popen[bytes], port: int, name: str, log: IO[bytes]) -> None:
    """Wait until the server answers with its name, as long as it works on it; UserError where it ends, or does
    nothing more. Another server may have taken the port since it was found free: its answers do not count.
    """
    signs, since = _signs(server.pid, log), time.monotonic()
    while True:
        if server.poll() is not None:
            raise UserError(f"MLflow's server ended with exit code {server.returncode}{_tail(log)}")
        try:
            with urllib.request.urlopen(f"http://{HOST}:{port}/report/server", timeout=1) as answer:
                if answer.read() == name.encode():
                    return
        except (HTTPException, OSError):  # of which URLError is one
            pass
        time.sleep(0.25)
        now = _signs(server.pid, log)
        if now != signs:
            signs, since = now, time.monotonic()
        if time.monotonic() - since > SILENT:
            raise UserError(f"MLflow's server has done nothing for {SILENT:.0f} s and does not answer{_tail(log)}")


def _signs(session: int, log: IO[bytes]) -> tuple[int, int]:
    """Signs of work: the size of the log, and the processor time of the server's processes, in clock ticks."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[3]) == session:
                ticks += int(fields[11]) + int(fields[12])
    return os.fstat(log.fileno()).st_size, ticks


def _tail(log: IO[bytes]) -> str:
    """The end of the log, to be added to a message."""
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines()[-TAIL:]
    return "; its last words:\n" + "\n".join(lines) if lines else "; it said nothing"
