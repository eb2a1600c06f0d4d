"""The cache of compiled programs: a folder of files, each of which ends with a digest of what it holds.

What is read from it is run, so a file counts only if this user wrote it, nobody else may write to it, and it is whole.
Others are made again. A library may be loaded with its digest: what follows its last section is ignored.

The folder must be this user's own, be written to, and let code run. Where it is not such a one, or becomes none, a
temporary folder of this process takes its place, after a warning; where there is no such one either, OSError.
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
import threading
from pathlib import Path

log = logging.getLogger("lfombench")

DIGEST = 32  # bytes
NO_CODE = getattr(os, "ST_NOEXEC", 0)  # of a file system, where the system tells
ELSEWHERE = ("/var/tmp", "/dev/shm")  # where code may run if it may not in the system's temporary folder


class Folder:
    """The folder in use, of those that the environment names."""

    def __init__(self, own: str, shared: str) -> None:
        """own, shared: LFOMBENCH_CACHE and XDG_CACHE_HOME, or nothing."""
        self.changing, self.temporary = threading.Lock(), False
        self.reason: OSError | KeyError | None = None  # why a folder before this one was given up
        self.path: Path | None = None
        try:
            named = Path(own) if own else (Path(shared) if shared else _home() / ".cache") / "lfombench"
            named.mkdir(parents=True, exist_ok=True)
            _check(named)
            self.path = named
        except (OSError, KeyError) as error:
            self._leave(error)

    def refuse(self, path: Path, error: OSError) -> None:
        """Use this folder no more."""
        with self.changing:
            if path == self.path:
                self._leave(error)

    def _leave(self, error: OSError | KeyError) -> None:
        """Go on in a temporary folder, or, after that, in none."""
        self.reason, self.path = error, None
        if not self.temporary:
            self.temporary = True
            self.path = _temporary()
            if self.path:
                log.warning("compiled programs are kept in %s, for this run alone: %s", self.path, _said(error))


def folder() -> Path:
    """Where programs are kept: LFOMBENCH_CACHE, or else lfombench in XDG_CACHE_HOME, which is ~/.cache if not set; a
    temporary folder of this process where that is not usable. OSError where none is.
    """
    chosen = _chosen()
    path = chosen.path
    if path is None:
        raise OSError(f"no folder can keep compiled programs: {given_up()}")
    return path


def given_up() -> str:
    """Why the folder that was named is not in use; nothing where it is."""
    return _said(reason) if (reason := _chosen().reason) else ""


def refuse(path: Path, error: OSError) -> None:
    """Use another folder than this from now on."""
    _chosen().refuse(path, error)


def _chosen() -> Folder:
    return _folder(os.environ.get("LFOMBENCH_CACHE", ""), os.environ.get("XDG_CACHE_HOME", ""))


_folder = functools.cache(Folder)


def _home() -> Path:
    """The user's home. KeyError where nothing says where it is."""
    return Path(os.environ.get("HOME") or pwd.getpwuid(os.geteuid()).pw_dir)


def _check(path: Path) -> None:
    """Raise OSError where a folder is another user's, cannot be written to, or lets no code run."""
    if path.stat().st_uid != os.geteuid():
        raise PermissionError(f"{path} belongs to another user")
    with tempfile.TemporaryFile(dir=path):
        pass
    if os.statvfs(path).f_flag & NO_CODE:
        raise PermissionError(f"{path} is on a file system that lets no code run (noexec)")


def _temporary() -> Path | None:
    """A folder of this process, which ends with it; None where nothing can be written that may run."""
    for parent in (None, *ELSEWHERE):
        try:
            path = Path(tempfile.mkdtemp(prefix="lfombench-", dir=parent))
            atexit.register(shutil.rmtree, path, ignore_errors=True)
            _check(path)
            return path
        except OSError:
            continue
    return None


def _said(error: OSError | KeyError) -> str:
    """An error in words."""
    return str(error.args[0]) if isinstance(error, KeyError) else str(error)


def read(name: str) -> bytes | None:
    """What an entry holds; None where there is none, or one that is not to be trusted."""
    try:
        path = folder() / name
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
    """Keep an entry, in place of one with its name; returns its path. OSError where no folder can hold it."""
    while True:
        path = folder() / name
        try:
            _write(path, content + hashlib.blake2b(content, digest_size=DIGEST).digest())
            return path
        except OSError as error:
            refuse(path.parent, error)


def _write(path: Path, content: bytes) -> None:
    """Write a file that nobody else may read or write, flushed to disk, and then give it its name."""
    handle, unfinished = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except OSError:
        os.unlink(unfinished)
        raise
