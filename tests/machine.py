"""This machine, otherwise: other file systems over some of its folders, another user, for one command."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

NOBODY = 54321  # a user without an entry in the system's list
Done = subprocess.CompletedProcess[str]


@functools.cache
def _can(*command: str) -> bool:
    return shutil.which(command[0]) is not None and subprocess.run(command, capture_output=True).returncode == 0


def mounts_needed() -> Any:
    """A mark: skipped, with the reason, where this user cannot mount anything even for himself."""
    return pytest.mark.skipif(
        not _can("unshare", "--mount", "true"), reason="needs a user who may mount file systems, as root in a container"
    )


def users_needed() -> Any:
    """A mark: skipped, with the reason, where commands cannot be run as another user."""
    able = mounts_needed().args[0] or python("import lfombench.harness", user=NOBODY).returncode
    return pytest.mark.skipif(bool(able), reason="needs root, to run commands as another user")


def elsewhere(
    command: Sequence[str],
    *,
    mounts: Sequence[str] = (),
    user: int | None = None,
    environment: Mapping[str, str] | None = None,
    **options: Any,
) -> Done:
    """Run a command. mounts: shell commands, in a world of mounts of its own. user: who runs it. options: of
    `subprocess.run`.
    """
    whole, before = [*command], [*mounts]
    if user is not None:
        rights = [f"--reuid={user}", f"--regid={user}", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"]
        whole, before = ["setpriv", *rights, *whole], [*_opened(), *before]
    if before:
        whole = ["unshare", "--mount", "sh", "-c", " && ".join([*before, f"exec {shlex.join(whole)}"])]
    return subprocess.run(
        whole,
        env=dict(os.environ if environment is None else environment),
        **{"capture_output": True, "text": True, "timeout": 200} | options,
    )


def _opened() -> Iterator[str]:
    """What lets every user read a Python that is in somebody's own folder, as pyenv's is."""
    base = Path(sys.base_prefix).resolve()
    for folder in reversed(base.parents):
        if not folder.stat().st_mode & 0o001:
            yield f"mount -t tmpfs -o mode=755 tmpfs /mnt && mkdir /mnt/python && mount --bind {base} /mnt/python"
            yield f"mount -t tmpfs -o mode=755 tmpfs {folder} && mkdir -p {base} && mount --bind /mnt/python {base}"
            return


def with_memory(size: int) -> list[str]:
    """Shell commands for `mounts` that leave a command so many bytes of memory, by control groups; none where the
    system does not let us.
    """
    for root, limit in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")):
        group = Path(root) / f"lfombench-{os.getpid()}"
        try:
            group.mkdir(exist_ok=True)
            atexit.register(group.rmdir)
            (group / limit).write_text(str(size))
            return [f"echo $$ > {group}/cgroup.procs"]
        except OSError:
            atexit.unregister(group.rmdir)
            with contextlib.suppress(OSError):
                group.rmdir()
    print("memory cannot be limited here", file=sys.stderr)
    return []


def python(code: str, **options: Any) -> Done:
    """Run Python code so."""
    return elsewhere([sys.executable, "-c", code], **options)
