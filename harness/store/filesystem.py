"""Where a store's files are: in a folder, or under a prefix in S3; and the few file operations that a store needs.

It relies on two guarantees: a file appears whole or not at all, and of several writers that create the same new file at
once exactly one succeeds. A folder gives the first by renaming and the second by a hard link, S3 both by a single PUT.
Not that the list of a folder is new: a disk that machines share may show what was there some seconds ago.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import posixpath
import secrets
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

import pyarrow as pa
from pyarrow import fs

from ..errors import UserError
from .uri import URI

TEMPORARY = ".writing-"  # begins the name of a file that is not complete yet
TRIES = 3  # of a write whose temporary file is swept away


class Place(ABC):
    """Files by name, relative to a root folder or prefix. An operation that fails raises OSError."""

    at_once: int  # files that are read at once

    def __init__(self, files: fs.FileSystem, root: str) -> None:
        self.files, self.root = files, root

    def path(self, name: str) -> str:
        """The path of a file for `files`: the root and the name."""
        return f"{self.root}/{name}".rstrip("/")

    def kind(self, name: str = "") -> fs.FileType:
        """Whether a name, or by default the root, is that of a file, of a folder, or of nothing."""
        return self.files.get_file_info(self.path(name)).type

    def names(self, folder: str) -> list[str]:
        """The names of the complete files directly in a folder, sorted; empty where the folder is missing."""
        return [posixpath.basename(info.path) for info in self.infos(folder)]

    def infos(self, folder: str) -> list[fs.FileInfo]:
        """The complete files directly in a folder, with their sizes, sorted; empty where the folder is missing."""
        entries = self.files.get_file_info(fs.FileSelector(self.path(folder), allow_not_found=True))
        return sorted((i for i in entries if i.is_file and i.base_name[0] != "."), key=lambda i: str(i.path))

    def read(self, name: str) -> bytes | None:
        """The content of a file; None where there is no such file, or no longer."""
        try:
            with self.files.open_input_stream(self.path(name)) as stream:
                return bytes(stream.read())
        except OSError as error:
            if isinstance(error, FileNotFoundError) or error.errno == errno.ESTALE:  # deleted by another machine
                return None
            raise

    def size(self, name: str) -> int | None:
        """The bytes of a file; None where there is no such file."""
        size: int | None = self.files.get_file_info(self.path(name)).size
        return size

    def delete(self, name: str) -> None:
        """Delete a file, if it is still there."""
        with contextlib.suppress(FileNotFoundError):
            self.files.delete_file(self.path(name))

    @abstractmethod
    def within(self, folder: str) -> Place:
        """The place of a folder here, which need not be there yet."""

    @abstractmethod
    def put(self, name: str, content: bytes | pa.Buffer) -> None:
        """Write a file, or replace it, in one step."""

    @abstractmethod
    def create(self, name: str, content: bytes | pa.Buffer) -> bool:
        """Write a file in one step if there is none of that name yet; False where there is one."""

    def move(self, name: str, to: str) -> None:
        """Give a file another name."""
        content = self.read(name)
        if content is not None:
            self.put(to, content)
            self.delete(name)

    @abstractmethod
    def sweep(self) -> None:
        """Delete the incomplete files that killed writers have left."""

    @abstractmethod
    def refresh(self) -> None:
        """From now on list the folders as they are, not as they were when this machine last looked."""


class Folder(Place):
    """A folder on this machine, or on a disk that several machines share."""

    at_once = min(4, os.cpu_count() or 1)

    def names(self, folder: str) -> list[str]:
        """As listed, without a look at each file: where a disk lists a folder as it was, some may be gone by now."""
        try:
            with os.scandir(self.path(folder)) as entries:
                return sorted(entry.name for entry in entries if entry.name[0] != "." and not entry.is_dir())
        except FileNotFoundError:
            return []

    def within(self, folder: str) -> Folder:
        """The place of a folder here, which need not be there yet."""
        return Folder(self.files, self.path(folder))

    def put(self, name: str, content: bytes | pa.Buffer) -> None:
        """Write a file under a temporary name, then rename it."""
        self._write(name, content, os.replace)

    def move(self, name: str, to: str) -> None:
        """Rename a file, in one step."""
        os.makedirs(posixpath.dirname(self.path(to)), exist_ok=True)
        os.replace(self.path(name), self.path(to))

    def create(self, name: str, content: bytes | pa.Buffer) -> bool:
        """Write a file under a temporary name, then link it to its own."""
        try:
            self._write(name, content, _link)
        except FileExistsError:
            return False
        return True

    def _write(self, name: str, content: bytes | pa.Buffer, finish: Callable[[str, str], None]) -> None:
        """Write a temporary file, flushed to disk, so that no power failure can leave a partial file; then give it its
        name by finish(temporary, path). Written again where a driver that starts has swept the temporary file away.
        """
        path = self.path(name)
        folder, base = posixpath.split(path)
        for left in reversed(range(TRIES)):
            temporary = f"{folder}/{TEMPORARY}{secrets.token_hex(6)}-{base}"  # process numbers repeat on other machines
            os.makedirs(folder, exist_ok=True)
            try:
                with open(temporary, "wb") as stream:
                    stream.write(content)
                    stream.flush()
                    os.fsync(stream.fileno())
                finish(temporary, path)
                return _flush_folder(folder)
            except FileNotFoundError:
                if not left:
                    raise
            finally:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)

    def sweep(self) -> None:
        """Delete the files that have a temporary name."""
        for path in Path(self.root).rglob(f"{TEMPORARY}*"):
            path.unlink(missing_ok=True)

    def refresh(self) -> None:
        """Write something into each folder: after that, a disk that several machines share looks at it again."""
        _touch(self.root)
        for entry in os.scandir(self.root):
            if entry.is_dir():
                _touch(entry.path)


def _touch(folder: str) -> None:
    """Make a file in a folder, and delete it."""
    path = f"{folder}/{TEMPORARY}{secrets.token_hex(6)}"
    with contextlib.suppress(OSError):
        with open(path, "xb"):
            pass
        os.unlink(path)


def _link(temporary: str, path: str) -> None:
    """Link a file to a name that is not taken; on a disk without hard links copy it there, which may be cut short."""
    try:
        os.link(temporary, path)
    except (FileExistsError, FileNotFoundError):
        raise
    except OSError:
        with open(temporary, "rb") as source, open(path, "xb") as target:
            shutil.copyfileobj(source, target)


def _flush_folder(folder: str) -> None:
    """Flush the entries of a folder to disk."""
    with contextlib.suppress(OSError):  # not every system can open folders
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


class Bucket(Place):
    """A prefix in S3 or in a compatible service. Credentials come from the URI, or from where AWS's tools look."""

    at_once = 16  # each waits for its answer

    def __init__(self, files: fs.FileSystem, root: str, uri: str) -> None:
        super().__init__(files, root)
        self.bucket, _, self.prefix = root.partition("/")
        self.uri = uri

    @functools.cached_property
    def client(self) -> Any:
        """The boto3 client that writes: Arrow reads S3 but cannot create a file exclusively."""
        import boto3

        parts = URI.of(self.uri)
        options = {key: values[-1] for key, values in parse_qs(parts.options).items()}
        endpoint = options.get("endpoint_override")
        if endpoint and "://" not in endpoint:
            endpoint = f"{options.get('scheme', 'https')}://{endpoint}"
        return boto3.client(
            "s3",
            endpoint_url=endpoint,
            region_name=options.get("region"),
            aws_access_key_id=parts.user and unquote(parts.user),
            aws_secret_access_key=parts.password and unquote(parts.password),
        )

    def within(self, folder: str) -> Bucket:
        """The place of a folder here, which need not be there yet."""
        return Bucket(self.files, self.path(folder), self.uri)

    def put(self, name: str, content: bytes | pa.Buffer) -> None:
        """Write an object, or replace it, by a PUT."""
        self._put(name, content)

    def create(self, name: str, content: bytes | pa.Buffer) -> bool:
        """Create an object by a conditional PUT; False where there is one of that name."""
        return self._put(name, content, IfNoneMatch="*")

    def _put(self, name: str, content: bytes | pa.Buffer, **condition: str) -> bool:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            key = f"{self.prefix}/{name}".lstrip("/")
            self.client.put_object(Bucket=self.bucket, Key=key, Body=bytes(content), **condition)
        except ClientError as error:
            if error.response["Error"]["Code"] in ("PreconditionFailed", "ConditionalRequestConflict"):
                return False
            raise OSError(str(error)) from error
        except BotoCoreError as error:
            raise OSError(str(error)) from error
        return True

    def sweep(self) -> None:
        """Do nothing: S3 has no incomplete objects to delete."""

    def refresh(self) -> None:
        """Do nothing: S3 always lists what there is."""


def local(out: str) -> Path | None:
    """The folder that a value of `--out` names; None where it is no path."""
    return None if "://" in out else Path(out).expanduser().absolute()


def place(out: str) -> Place:
    """The place that a value of `--out` names; UserError where it cannot be one."""
    if not out:
        raise UserError("--out is empty; give a folder")
    try:
        out.encode()
        folder = local(out)
    except UnicodeEncodeError:
        raise UserError(f"--out {out!r} is no text in UTF-8; give another folder") from None
    except RuntimeError as error:  # ~NAME of nobody
        raise UserError(f"--out {out}: {error}") from None
    if folder is not None:
        return Folder(fs.LocalFileSystem(), str(folder))
    try:
        files, root = fs.FileSystem.from_uri(URI.of(out).encoded)
    except (ValueError, OSError) as error:
        raise UserError(f"--out {out}: not a place for a store: {error}") from error
    if isinstance(files, fs.LocalFileSystem):
        return Folder(files, str(root))
    if not isinstance(files, fs.S3FileSystem):
        raise UserError(f"--out {out}: a store is a folder or s3://bucket/prefix; copy others with their own tools")
    return Bucket(files, str(root).rstrip("/"), out)


def join(out: str, name: str) -> str:
    """The path of a file in a store as it is shown to people: without the credentials and options of a URI."""
    return f"{out.rstrip('/') if local(out) else URI.of(out).shown}/{name}"
