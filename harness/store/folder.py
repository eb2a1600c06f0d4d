"""A folder on this machine, or on a disk that several machines share, as the place of a store.

What is in the folder may come from somebody else. So nothing outside it is read, written or deleted, whatever it
holds: every operation goes from a handle of the folder, part by part, and follows no link on its way; only the folder
that the user names may be one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from typing import Literal

import pyarrow as pa

from ..errors import UserError
from .place import Parts, Place

TEMPORARY = ".writing-"  # begins the name of a file that is not complete yet
INCOMPLETE = re.compile(rf"{re.escape(TEMPORARY)}[0-9a-f]{{12}}(-.*)?", re.DOTALL)
TRIES = 3  # of a write whose temporary file is swept away
WAY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe does not hold up who reads it
WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Folder(Place):
    """A folder whose files appear whole, by renaming, and of one name once, by a hard link."""

    at_once = min(4, os.cpu_count() or 1)

    def __init__(self, root: str, inner: str = "") -> None:
        """root: the folder that the user names. inner: a folder in it, whose files these are."""
        super().__init__(f"{root}/{inner}".rstrip("/"))
        self.named, self.inner = root, inner

    def kind(self) -> Literal["file", "folder"] | None:
        """What the root is; None where there is nothing."""
        if os.path.isdir(self.root):
            return "folder"
        return "file" if os.path.lexists(self.root) else None

    def sizes(self, folder: str) -> dict[str, int]:
        """The bytes of the complete files directly in a folder by name, sorted; empty where the folder is missing."""
        found = {}
        for entry in self._entries(folder):
            with contextlib.suppress(FileNotFoundError):
                found[entry.name] = entry.stat(follow_symlinks=False).st_size
        return dict(sorted(found.items()))

    def names(self, folder: str) -> list[str]:
        """As listed, without a look at each file: where a disk lists a folder as it was, some may be gone by now."""
        return sorted(entry.name for entry in self._entries(folder))

    def _entries(self, folder: str) -> Iterator[os.DirEntry[str]]:
        """What is listed in a folder and is a complete file, as far as the list says."""
        with contextlib.suppress(FileNotFoundError), self._in(folder) as handle, os.scandir(handle) as entries:
            for entry in entries:
                if entry.name[0] != "." and not entry.is_symlink() and not entry.is_dir(follow_symlinks=False):
                    yield entry

    def read(self, name: str) -> bytes | None:
        """The content of a file; None where there is no such file, or no longer."""
        try:
            with self._of(name) as (handle, base), open(os.open(base, READ, dir_fd=handle), "rb") as stream:
                return stream.read() if stat.S_ISREG(os.fstat(stream.fileno()).st_mode) else None
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ELOOP, errno.ESTALE):  # a link; deleted by another machine
                return None
            raise

    def open(self, name: str) -> Opened:
        """A file, to read parts of it."""
        with self._of(name) as (handle, base):
            opened = Opened(os.open(base, READ, dir_fd=handle))
            if not stat.S_ISREG(os.fstat(opened.handle).st_mode):
                raise FileNotFoundError(errno.ENOENT, "no file, but a link or something else", self.path(name))
            return opened

    def size(self, name: str) -> int | None:
        """The bytes of a file; None where there is no such file."""
        with contextlib.suppress(FileNotFoundError), self._of(name) as (handle, base):
            found = os.stat(base, dir_fd=handle, follow_symlinks=False)
            return found.st_size if stat.S_ISREG(found.st_mode) else None
        return None

    def delete(self, name: str) -> None:
        """Delete a file, if it is still there."""
        with contextlib.suppress(FileNotFoundError), self._of(name) as (handle, base):
            os.unlink(base, dir_fd=handle)

    def within(self, folder: str) -> Folder:
        """The place of a folder here, which need not be there yet."""
        self.path(folder)
        return Folder(self.named, f"{self.inner}/{folder}".lstrip("/"))

    def put(self, name: str, content: bytes | pa.Buffer) -> None:
        """Write a file under a temporary name, then rename it."""
        self._write(name, content, lambda at, old, new: os.replace(old, new, src_dir_fd=at, dst_dir_fd=at))

    def create(self, name: str, content: bytes | pa.Buffer) -> bool:
        """Write a file under a temporary name, then link it to its own."""
        try:
            self._write(name, content, _link)
        except FileExistsError:
            return False
        return True

    def move(self, name: str, to: str) -> None:
        """Rename a file, in one step."""
        with self._of(name) as (source, old), self._of(to, make=True) as (target, new):
            os.replace(old, new, src_dir_fd=source, dst_dir_fd=target)

    def sweep(self) -> None:
        """Delete the files that have a temporary name."""
        for _, _, names, handle in os.fwalk(self.root):
            for name in filter(INCOMPLETE.fullmatch, names):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=handle)

    def refresh(self) -> None:
        """Write something into each folder: after that, a disk that several machines share looks at it again."""
        with self._in("") as here:
            _touch(here)
            for entry in os.scandir(here):
                if entry.is_dir(follow_symlinks=False):
                    with contextlib.suppress(OSError), self._in(entry.name) as handle:
                        _touch(handle)

    def _write(self, name: str, content: bytes | pa.Buffer, finish: Callable[[int, str, str], None]) -> None:
        """Write a temporary file, flushed to disk, so that no power failure can leave a partial file; then give it its
        name by finish(folder, temporary, name). Written again where a driver that starts has swept the temporary away.
        """
        for left in reversed(range(TRIES)):
            with self._of(name, make=True) as (handle, base):
                temporary = f"{TEMPORARY}{secrets.token_hex(6)}-{base}"  # process numbers repeat on other machines
                try:
                    with open(os.open(temporary, WRITE, 0o666, dir_fd=handle), "wb") as stream:
                        stream.write(content)
                        stream.flush()
                        os.fsync(stream.fileno())
                    finish(handle, temporary, base)
                    with contextlib.suppress(OSError):  # not every system can flush folders
                        os.fsync(handle)
                    return
                except FileNotFoundError:
                    if not left:
                        raise
                finally:
                    with contextlib.suppress(OSError):
                        os.unlink(temporary, dir_fd=handle)

    @contextlib.contextmanager
    def _of(self, name: str, make: bool = False) -> Iterator[tuple[int, str]]:
        """A handle of the folder that a file is in, and its name there; errors then have its whole path."""
        path = self.path(name)
        folder, base = posixpath.split(name)
        with self._in(folder, make) as handle:
            try:
                yield handle, base
            except OSError as error:
                error.filename, error.filename2 = path, None
                raise

    @contextlib.contextmanager
    def _in(self, folder: str, make: bool = False) -> Iterator[int]:
        """A handle of a folder here. make: it, where it is missing."""
        self.path(folder)
        if make:
            os.makedirs(self.named, exist_ok=True)
        handle, way = os.open(self.named, WAY), self.named
        try:
            for part in filter(None, f"{self.inner}/{folder}".split("/")):
                way = f"{way}/{part}"
                if make:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(part, dir_fd=handle)
                outer, handle = handle, self._step(handle, part, way)
                os.close(outer)
            yield handle
        finally:
            os.close(handle)

    def _step(self, handle: int, part: str, way: str) -> int:
        """A handle of a folder in a folder."""
        try:
            return os.open(part, WAY | os.O_NOFOLLOW, dir_fd=handle)
        except OSError as error:
            error.filename = way
            if error.errno in (errno.ELOOP, errno.ENOTDIR) and os.path.islink(way):
                raise UserError(
                    f"{way} is a link; where a store links to nothing is read or written: put the folder itself there"
                ) from None
            raise


class Opened(Parts):
    """A file of a folder, for as long as this object is there."""

    def __init__(self, handle: int) -> None:
        self.handle = handle

    def __del__(self) -> None:
        os.close(self.handle)

    @property
    def size(self) -> int:
        """The number of bytes that it has."""
        return os.fstat(self.handle).st_size

    def read_into(self, buffer: memoryview, begin: int) -> None:
        """Fill a buffer with what is at a byte. OSError where there is less."""
        done = 0
        while done < len(buffer):
            read = os.preadv(self.handle, [buffer[done:]], begin + done)
            if not read:
                raise OSError(f"the file ends before byte {begin + len(buffer)}")
            done += read


def _touch(handle: int) -> None:
    """Make a file in a folder, and delete it."""
    name = f"{TEMPORARY}{secrets.token_hex(6)}"
    with contextlib.suppress(OSError):
        os.close(os.open(name, WRITE, dir_fd=handle))
        os.unlink(name, dir_fd=handle)


def _link(handle: int, temporary: str, name: str) -> None:
    """Link a file to a name that is not taken; on a disk without hard links copy it there, which may be cut short."""
    try:
        os.link(temporary, name, src_dir_fd=handle, dst_dir_fd=handle)
    except (FileExistsError, FileNotFoundError):
        raise
    except OSError:
        with (
            open(os.open(temporary, READ, dir_fd=handle), "rb") as source,
            open(os.open(name, WRITE, 0o666, dir_fd=handle), "wb") as target,
        ):
            shutil.copyfileobj(source, target)
