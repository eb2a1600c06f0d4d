"""The cache of compiled programs: a folder of files, each of which ends with a digest of what it holds.

What is read from it is run, so a file counts only if this user wrote it, nobody else may write to it, and it is whole.
Others are made again. A library may be loaded with its digest: what follows its last section is ignored.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import logging
import os
import pwd
import shutil
import tempfile
from pathlib import Path

log = logging.getLogger("lfombench")

DIGEST = 32  # bytes


def folder() -> Path:
    """Where programs are kept: LFOMBENCH_CACHE, or else lfombench in XDG_CACHE_HOME, which is ~/.cache if not set; a
    temporary folder of this process where that cannot be written.
    """
    return _usable(os.environ.get("LFOMBENCH_CACHE", ""), os.environ.get("XDG_CACHE_HOME", ""))


@functools.cache
def _usable(own: str, shared: str) -> Path:
    try:
        path = Path(own) if own else (Path(shared) if shared else _home() / ".cache") / "lfombench"
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except (OSError, KeyError) as error:
        log.warning("compiled programs are kept for this process alone: %s", error)
        path = Path(tempfile.mkdtemp(prefix="lfombench-"))
        atexit.register(shutil.rmtree, path, ignore_errors=True)
        return path


def _home() -> Path:
    """The user's home. KeyError where nothing says where it is."""
    return Path(os.environ.get("HOME") or pwd.getpwuid(os.geteuid()).pw_dir)


def read(name: str) -> bytes | None:
    """What an entry holds; None where there is none, or one that is not to be trusted."""
    path = folder() / name
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            content = file.read()
    except OSError:
        return None
    held, digest = content[:-DIGEST], content[-DIGEST:]
    whole = digest == hashlib.blake2b(held, digest_size=DIGEST).digest()
    ours = status.st_uid == os.geteuid() and not status.st_mode & 0o022
    if whole and ours:
        return held
    log.warning("%s is made again: %s", path, "others can write to it" if whole else "it is damaged")
    return None


def write(name: str, content: bytes) -> Path:
    """Keep an entry, in place of one with its name; returns its path. OSError where that is not possible."""
    path = folder() / name
    handle, unfinished = tempfile.mkstemp(dir=path.parent)  # which nobody else may read or write
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content + hashlib.blake2b(content, digest_size=DIGEST).digest())
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except OSError:
        os.unlink(unfinished)
        raise
    return path
