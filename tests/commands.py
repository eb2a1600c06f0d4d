"""The command line, in this process or in one of its own."""

from __future__ import annotations

import contextlib
import io
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

from lfombench.harness.cli.main import invoke

Done = subprocess.CompletedProcess[str]


def lfombench(*arguments: str) -> Done:
    """A command in this process, as a new one takes seconds to import torch. It leaves the process as it found it."""
    told, errors = io.StringIO(), io.StringIO()
    with (
        _finders_restored(),
        patch.object(sys, "path", [*sys.path]),
        _signals_restored(),
        contextlib.redirect_stdout(told),
        contextlib.redirect_stderr(errors),
    ):
        code = invoke([*arguments])
    return subprocess.CompletedProcess(arguments, int(code or 0), told.getvalue(), errors.getvalue())


@contextlib.contextmanager
def _finders_restored() -> Iterator[None]:
    """Take away the finders of modules that the command has added; not those of others, as six, which come but once."""
    before = {id(finder) for finder in sys.meta_path}
    try:
        yield
    finally:
        ours = [one for one in sys.meta_path if id(one) not in before and _is_ours(one)]
        sys.meta_path[:] = [one for one in sys.meta_path if one not in ours]


def _is_ours(finder: object) -> bool:
    kind = finder if isinstance(finder, type) else type(finder)
    return kind.__module__.startswith("lfombench.")


@contextlib.contextmanager
def _signals_restored() -> Iterator[None]:
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def words(*arguments: str) -> list[str]:
    """What starts a command in a process of its own."""
    return [sys.executable, "-m", "lfombench", *arguments]


def process(*arguments: str, cwd: Path | None = None, **options: Any) -> Done:
    """A command in a process of its own, as a user starts it. options: of `subprocess.run`."""
    return subprocess.run(
        words(*arguments), **{"capture_output": True, "text": True, "timeout": 200, "cwd": cwd} | options
    )
