"""A Ray of this machine that is its user's alone: nobody else reaches it over a network, or reads its token."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

CLUSTERS = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
NAMED = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")  # variables by which the user gives Ray a token


@contextlib.contextmanager
def on_loopback() -> Iterator[None]:
    """Let the Ray that starts meanwhile listen to this machine alone, as it does where it has no clusters."""
    from ray._private import ray_constants as constants

    before, known = os.environ.get(CLUSTERS), getattr(constants, "ENABLE_RAY_CLUSTER", None)
    os.environ[CLUSTERS] = "0"  # for the processes that it starts
    constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = known
        os.environ.pop(CLUSTERS)
        os.environ |= {} if before is None else {CLUSTERS: before}


def keep_token_private() -> None:
    """Make the token that Ray asks for, if there is none, where no other user of this machine can read it: the file
    that Ray itself makes all can. Nothing where the user gives Ray another token, or wants none.
    """
    if os.environ.get("RAY_AUTH_MODE", "token") != "token" or any(os.environ.get(name) for name in NAMED):
        return
    with contextlib.suppress(OSError, RuntimeError):  # no home to write to: Ray says so, if it minds
        file = token_file()
        file.parent.mkdir(mode=0o700, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as token:
                token.write(secrets.token_hex(32))
            return
        if readable_by_others(file):
            file.chmod(0o600)


def token_file() -> Path:
    """Where Ray keeps its token, unless the user names another file."""
    return Path.home() / ".ray" / "auth_token"


def readable_by_others(file: Path) -> bool:
    """Whether other users of this machine may read a file."""
    return bool(file.stat().st_mode & 0o077)
