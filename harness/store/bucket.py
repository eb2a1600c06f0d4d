"""A prefix in S3, or in a service that speaks its language, as the place of a store."""

from __future__ import annotations

import contextlib
import functools
from typing import Any
from urllib.parse import parse_qs, unquote

import pyarrow as pa
from pyarrow import fs

from .place import Place
from .uri import URI


class Bucket(Place):
    """A prefix in S3 or in a compatible service. Credentials come from the URI, or from where AWS's tools look."""

    at_once = 16  # each waits for its answer

    def __init__(self, files: fs.S3FileSystem, root: str, uri: str) -> None:
        super().__init__(root)
        self.files = files
        self.bucket, _, _ = root.partition("/")
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

    def kind(self) -> fs.FileType:
        """Whether the prefix is that of files, or of nothing."""
        return self.files.get_file_info(self.root).type

    def infos(self, folder: str) -> list[fs.FileInfo]:
        """The files directly in a folder, with their sizes, sorted; empty where the folder is missing."""
        entries = self.files.get_file_info(fs.FileSelector(self.path(folder), allow_not_found=True))
        return sorted((i for i in entries if i.is_file and i.base_name[0] != "."), key=lambda i: str(i.path))

    def read(self, name: str) -> bytes | None:
        """The content of an object; None where there is none of that name, or no longer."""
        try:
            with self.files.open_input_stream(self.path(name)) as stream:
                return bytes(stream.read())
        except FileNotFoundError:
            return None

    def open(self, name: str) -> pa.NativeFile:
        """An object, to read parts of it."""
        return self.files.open_input_file(self.path(name))

    def size(self, name: str) -> int | None:
        """The bytes of an object; None where there is none of that name."""
        size: int | None = self.files.get_file_info(self.path(name)).size
        return size

    def delete(self, name: str) -> None:
        """Delete an object, if it is still there."""
        with contextlib.suppress(FileNotFoundError):
            self.files.delete_file(self.path(name))

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
            _, _, key = self.path(name).partition("/")
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
