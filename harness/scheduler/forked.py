"""Workers of Ray that are forks of the fork server of their node.

Ray starts `COMMAND default_worker.py ...` where it would start Python. That asks the fork server, which it starts where
there is none, to fork, hands over its words, variables and outputs, and ends: the fork is Ray's worker from then on.
Where nothing can be forked the command becomes the worker itself, as without all of this.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from .forkserver import OOM, SIZE, possible, shared, start, user

NAME = "LFOMBENCH_FORKSERVER"  # the variable that names the fork server of a run on this machine
JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # in which Ray says how the job that this process belongs to was started
PATIENCE = 30.0  # seconds within which it must have forked: Ray waits twice as long for a worker
TRIES, PAUSE = 40, 0.05  # until it listens, and the seconds between them

# The Python of whichever node this runs on, as its Ray has it, which is the parent of what Ray starts.
FIND = r"tr '\0' '\n' </proc/$PPID/cmdline | sed -n 's/^--python_worker_command=\([^ ]*\) .*/\1/p' | grep ."
NODES_PYTHON = f"$({FIND} || echo python)"
CODE = """\
import os, sys
words = sys.argv[1:]
try:
    from lfombench.harness.scheduler.forked import is_handed_over
    done = is_handed_over(words)
except Exception:  # whatever ails the lfombench of this node: the worker will say it
    done = False
if not done:
    os.execv(sys.executable, [sys.executable, *words])
"""


def runtime_env(python: str | None = None) -> dict[str, str]:
    """What Ray is told, so that the workers of this driver are forks; nothing where they cannot be.

    python: that of this machine, where all workers are here.
    """
    job = json.loads(os.environ.get(JOB) or "{}")
    if not possible() or "py_executable" in (job.get("runtime_env") or {}):  # which Ray would not have twice
        return {}
    return {"py_executable": f"{shlex.quote(python) if python else NODES_PYTHON} -P -c {shlex.quote(CODE)}"}


def is_handed_over(words: Sequence[str]) -> bool:
    """Let a fork be the worker that Ray wants here: whether one is. words: those that follow Python."""
    if words[0].startswith("-"):  # options, for a Python that starts anew
        return False
    name = _name(Path(words[0]))
    for _ in range(TRIES):
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(PATIENCE)
            try:
                link.connect(f"\0{name}")
                return user(link) == os.getuid() and _order(link, words)
            except ConnectionRefusedError:
                with contextlib.suppress(OSError, KeyError, ValueError):  # another worker is quicker
                    start(name, int(os.environ["RAY_RAYLET_PID"]))
        time.sleep(PAUSE)
    return False


def _name(worker: Path) -> str:
    """The name of the fork server for a worker with the variables of this process: one that has imported other files,
    or with other variables, has another. worker: Ray's file.
    """
    if NAME in os.environ:
        return os.environ[NAME]
    package = Path(__file__).parents[2]
    files = [Path(sys.executable), *worker.parents[3:4]]  # a folder of packages is as new as its latest
    for room in ("harness", "tasks", "solvers"):
        files += sorted((package / room).rglob("*.py"))
    dates = [(str(path), path.stat().st_mtime_ns) for path in files]
    parts = [os.getuid(), sys.executable, sorted(shared(os.environ).items()), dates]
    return f"lfombench-{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]}"


def _order(link: socket.socket, words: Sequence[str]) -> bool:
    """Ask for a fork, wait for it, and let it go on."""
    order = json.dumps([list(words), dict(os.environ), os.getcwd(), os.nice(0), OOM.read_text()]).encode()
    socket.send_fds(link, [SIZE.pack(len(order))], [0, 1, 2])
    link.sendall(order)
    if not link.recv(1):
        return False
    link.sendall(b"1")
    return True
