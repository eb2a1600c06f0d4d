"""This machine, otherwise: other file systems over some of its folders, another user, for one command."""

from __future__ import annotations

import functools
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
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
    """A mark: skipped, with the reason, where commands cannot be run as another user who can read this installation."""
    able = _can("setpriv", *_as(NOBODY), sys.executable, "-c", "import lfombench.harness")
    reason = "needs root, and an installation that other users can read"
    return pytest.mark.skipif(not able, reason=reason)


def _as(user: int) -> list[str]:
    return [f"--reuid={user}", f"--regid={user}", "--clear-groups"]


def elsewhere(
    command: Sequence[str],
    *,
    mounts: Sequence[str] = (),
    user: int | None = None,
    environment: Mapping[str, str] | None = None,
    **options: Any,
) -> Done:
    """Run a command. mounts: the arguments of `mount`, for this command alone. user: who runs it. options: of
    `subprocess.run`.
    """
    whole = [*command]
    if user is not None:
        whole = ["setpriv", *_as(user), *whole]
    if mounts:
        lines = [f"mount {mount}" for mount in mounts]
        whole = ["unshare", "--mount", "sh", "-c", " && ".join([*lines, f"exec {shlex.join(whole)}"])]
    return subprocess.run(
        whole,
        env=dict(os.environ if environment is None else environment),
        **{"capture_output": True, "text": True, "timeout": 200} | options,
    )


def python(code: str, **options: Any) -> Done:
    """Run Python code so."""
    return elsewhere([sys.executable, "-c", code], **options)
