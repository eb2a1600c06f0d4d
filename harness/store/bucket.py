"""A prefix in a bucket of S3, Google Cloud Storage or Azure, or of a service that speaks like one of them, as the place
of a store.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Literal

import obstore
import pyarrow as pa
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import ObjectStore

from ..redact import redacted
from .clouds import bucket_of
from .place import Parts, Place
from .uri import URI

MISSING = " 404 Not Found"  # what a list says of a bucket that is not there


class Bucket(Place):
    """A prefix in a bucket, whose objects appear whole, by a PUT, and of one key once, by a conditional one."""

    at_once = 16  # each waits for its answer

    def __init__(self, uri: str, inner: str = "") -> None:
        """uri: what the user names. inner: a folder in it, whose files these are."""
        named = URI.of(uri)
        super().__init__("/".join(filter(None, [named.authority, named.path.strip("/"), inner])))
        self.uri, self.inner = uri, inner

    @functools.cached_property
    def objects(self) -> ObjectStore:
        """All objects of the bucket."""
        return bucket_of(self.uri)

    def kind(self) -> Literal["file", "folder"] | None:
        """What the root is; None where there is nothing."""
        with contextlib.suppress(FileNotFoundError), _told():
            if any(obstore.list(*self._at(""), chunk_size=1)):
                return "folder"
        return None if self.size("") is None else "file"

    def sizes(self, folder: str) -> dict[str, int]:
        """The bytes of the objects directly in a folder by name, sorted; empty where the folder is missing."""
        with contextlib.suppress(FileNotFoundError), _told():
            listed = obstore.list_with_delimiter(*self._at(folder))["objects"]
            found = {each["path"].rpartition("/")[2]: each["size"] for each in listed}
            return {name: found[name] for name in sorted(found) if name[0] != "."}
        return {}

    def read(self, name: str) -> bytes | None:
        """The content of an object; None where there is none of that name, or no longer."""
        with contextlib.suppress(FileNotFoundError), _told():
            return bytes(obstore.get(*self._at(name)).bytes())
        return None

    def open(self, name: str) -> Opened:
        """An object, to read parts of it."""
        if (size := self.size(name)) is None:
            raise FileNotFoundError(f"{self.path(name)} is not there")
        return Opened(*self._at(name), size)

    def size(self, name: str) -> int | None:
        """The bytes of an object; None where there is none of that name."""
        if not self._key(name):  # the bucket itself
            return None
        with contextlib.suppress(FileNotFoundError), _told():
            return obstore.head(*self._at(name))["size"]
        return None

    def delete(self, name: str) -> None:
        """Delete an object, if it is still there."""
        with contextlib.suppress(FileNotFoundError), _told():
            obstore.delete(*self._at(name))

    def within(self, folder: str) -> Bucket:
        """The place of a folder here, which need not be there yet."""
        self.path(folder)
        return Bucket(self.uri, f"{self.inner}/{folder}".lstrip("/"))

    def put(self, name: str, content: bytes | pa.Buffer) -> None:
        """Write an object, or replace it, by a PUT."""
        self._put(name, content, "overwrite")

    def create(self, name: str, content: bytes | pa.Buffer) -> bool:
        """Create an object by a conditional PUT; False where there is one of that name."""
        try:
            self._put(name, content, "create")
        except AlreadyExistsError:
            return False
        return True

    def sweep(self) -> None:
        """Do nothing: a bucket has no incomplete objects to delete."""

    def refresh(self) -> None:
        """Do nothing: a bucket always lists what there is."""

    def _put(self, name: str, content: bytes | pa.Buffer, mode: Literal["create", "overwrite"]) -> None:
        """Write an object in one request; in several, a writer who is killed would leave parts, which cost money."""
        with _told():
            obstore.put(*self._at(name), memoryview(content).cast("B"), mode=mode, use_multipart=False)

    def _at(self, name: str) -> tuple[ObjectStore, str]:
        """The bucket, and the key of a file in it, which is looked at first."""
        key = self._key(name)
        return self.objects, key

    def _key(self, name: str) -> str:
        """The key of a file in the bucket."""
        return self.path(name).partition("/")[2]


class Opened(Parts):
    """An object of a bucket."""

    def __init__(self, objects: ObjectStore, key: str, size: int) -> None:
        self.objects, self.key, self._size = objects, key, size

    @property
    def size(self) -> int:
        """The number of bytes that it has."""
        return self._size

    def read_into(self, buffer: memoryview, begin: int) -> None:
        """Fill a buffer with what is at a byte. OSError where there is less."""
        with _told():
            content = obstore.get_range(self.objects, self.key, start=begin, length=len(buffer)) if buffer else b""
        if len(content) < len(buffer):
            raise OSError(f"{self.key} ends before byte {begin + len(buffer)}")
        buffer[:] = memoryview(content)


class CloudError(OSError):
    """A cloud did not do what was asked of it, or is not reached."""


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Make an error of the library an OSError that says in a line what it is; not one that says that a key is taken."""
    try:
        yield
    except AlreadyExistsError:
        raise
    except (BaseError, FileNotFoundError, ValueError) as error:  # a ValueError: parts that an object does not have
        said = redacted(str(error).partition("\n")[0])  # the rest is for those who work on the library
        kind = FileNotFoundError if isinstance(error, FileNotFoundError) or MISSING in said else CloudError
        raise kind(said) from error
