"""Where a store lies: a folder, or a prefix in S3; and the few things that a store asks of it.

Two of them carry everything else: a file appears whole or not at all, and of several that make the same new file at
once exactly one succeeds. A folder does the first by renaming and the second by a hard link, S3 both in a single PUT.
"""

from __future__ import annotations

import contextlib
import functools
import os
import posixpath
import secrets
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import parse_qs, unquote, urlsplit

import pyarrow as pa
from pyarrow import fs

from ..errors import UserError

TEMPORARY = ".writing-"  # begins the name of a file that is not whole yet
Content: TypeAlias = bytes | pa.Buffer


class Place(ABC):
    """Files by name, relative to a root. What cannot be done raises OSError."""

    def __init__(self, files: fs.FileSystem, root: str) -> None:
        self.files, self.root = files, root

    def path(self, name: str) -> str:
        """For `files`."""
        return f"{self.root}/{name}".rstrip("/")

    def kind(self, name: str = "") -> fs.FileType:
        """Whether it is a file, a folder, or not there."""
        return self.files.get_file_info(self.path(name)).type

    def names(self, folder: str) -> list[str]:
        """Whole files right in a folder, sorted; none where it is missing."""
        return [posixpath.basename(info.path) for info in self.infos(folder)]

    def infos(self, folder: str) -> list[fs.FileInfo]:
        """The same with sizes."""
        found = self.files.get_file_info(fs.FileSelector(self.path(folder), allow_not_found=True))
        return sorted((i for i in found if i.is_file and i.base_name[0] != "."), key=lambda i: str(i.path))

    def read(self, name: str) -> bytes | None:
        """A file's content; None where it is not there."""
        try:
            with self.files.open_input_stream(self.path(name)) as stream:
                return bytes(stream.read())
        except FileNotFoundError:
            return None

    def delete(self, name: str) -> None:
        """Remove a file that may be gone already."""
        with contextlib.suppress(FileNotFoundError):
            self.files.delete_file(self.path(name))

    @abstractmethod
    def put(self, name: str, content: Content) -> None:
        """Write a file, or replace it, in one step."""

    @abstractmethod
    def create(self, name: str, content: Content) -> bool:
        """Write a file in one step if there is none of that name yet; False where there is."""

    @abstractmethod
    def sweep(self) -> None:
        """Remove what a killed writer left half-written."""


class Folder(Place):
    """On this machine, or on a disk that machines share."""

    def put(self, name: str, content: Content) -> None:
        """Through a temporary name."""
        with self._written(name, content) as temporary:
            os.replace(temporary, self.path(name))
            _settle(posixpath.dirname(temporary))

    def create(self, name: str, content: Content) -> bool:
        """Through a hard link; where the disk knows none, through exclusive creation, which may be cut short."""
        with self._written(name, content) as temporary:
            try:
                os.link(temporary, self.path(name))
            except FileExistsError:
                return False
            except OSError:
                return self._create_plainly(name, content)
            _settle(posixpath.dirname(temporary))
        return True

    def _create_plainly(self, name: str, content: Content) -> bool:
        try:
            with open(self.path(name), "xb") as stream:
                stream.write(content)
        except FileExistsError:
            return False
        return True

    @contextlib.contextmanager
    def _written(self, name: str, content: Content) -> Any:
        """A temporary file with the content, on disk before it has its name, whatever the power does."""
        folder, base = posixpath.split(self.path(name))
        temporary = f"{folder}/{TEMPORARY}{secrets.token_hex(6)}-{base}"  # process numbers repeat on other machines
        os.makedirs(folder, exist_ok=True)
        try:
            with open(temporary, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            yield temporary
        finally:
            with contextlib.suppress(OSError):
                os.unlink(temporary)

    def sweep(self) -> None:
        """Files under a temporary name."""
        for path in Path(self.root).rglob(f"{TEMPORARY}*"):
            path.unlink(missing_ok=True)


def _settle(folder: str) -> None:
    """A folder's own entries on disk."""
    with contextlib.suppress(OSError):  # not every system opens folders
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


class Bucket(Place):
    """A prefix in S3, or in what speaks like it. Credentials come from the URI, or from where AWS's tools look."""

    def __init__(self, files: fs.FileSystem, root: str, uri: str) -> None:
        super().__init__(files, root)
        self.bucket, _, self.prefix = root.partition("/")
        self.uri = uri

    @functools.cached_property
    def client(self) -> Any:
        """Arrow reads S3 but cannot create exclusively."""
        import boto3

        given = urlsplit(self.uri)
        asked = {key: values[-1] for key, values in parse_qs(given.query).items()}
        endpoint = asked.get("endpoint_override")
        if endpoint and "://" not in endpoint:
            endpoint = f"{asked.get('scheme', 'https')}://{endpoint}"
        return boto3.client(
            "s3",
            endpoint_url=endpoint,
            region_name=asked.get("region"),
            aws_access_key_id=given.username and unquote(given.username),
            aws_secret_access_key=given.password and unquote(given.password),
        )

    def put(self, name: str, content: Content) -> None:
        """A PUT."""
        self._put(name, content)

    def create(self, name: str, content: Content) -> bool:
        """A conditional PUT."""
        return self._put(name, content, IfNoneMatch="*")

    def _put(self, name: str, content: Content, **condition: str) -> bool:
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
        """Nothing is ever half-written."""


def place(out: str) -> Place:
    """The place that an `--out` names."""
    if not out:
        raise UserError("--out is empty; give a folder")
    if "://" not in out:
        return Folder(fs.LocalFileSystem(), str(Path(out).expanduser().absolute()))
    try:
        files, root = fs.FileSystem.from_uri(out)
    except (ValueError, OSError) as error:
        raise UserError(f"--out {out}: not a place for a store: {error}") from error
    if isinstance(files, fs.LocalFileSystem):
        return Folder(files, str(root))
    if not isinstance(files, fs.S3FileSystem):
        raise UserError(f"--out {out}: a store is a folder or s3://bucket/prefix; copy others with their own tools")
    return Bucket(files, str(root).rstrip("/"), out)


def within(out: str, name: str) -> str:
    """A file of the store as people write it, without the credentials or options of a URI."""
    if "://" not in out:
        return f"{out.rstrip('/')}/{name}"
    parts = urlsplit(out)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}/{name}"
