"""The few file operations that a store needs, wherever its files are.

It relies on two guarantees: a file appears whole or not at all, and of several writers that create the same new file at
once exactly one succeeds. A folder gives the first by renaming and the second by a hard link, a bucket both by one PUT.
Not that the list of a folder is new: a disk that machines share may show what was there some seconds ago.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import pyarrow as pa

from ..errors import UserError


class Parts(ABC):
    """An open file, of which several threads may read parts at once."""

    @property
    @abstractmethod
    def size(self) -> int:
        """The number of bytes that it has."""

    @abstractmethod
    def read_into(self, buffer: memoryview, begin: int) -> None:
        """Fill a buffer with what is at a byte. OSError where there is less."""


class Place(ABC):
    """Files by name, relative to a root folder or prefix. An operation that fails raises OSError."""

    at_once: int  # files that are read at once

    def __init__(self, root: str) -> None:
        self.root = root

    def path(self, name: str) -> str:
        """The path of a file: the root and the name. UserError where that would lead out of the root, as a name may
        that was read in a store.
        """
        if {"", ".", ".."} & {*name.split("/")} and name:
            raise UserError(f"{name!r} is no name of a file in {self.root}: it would lead out of it")
        return f"{self.root}/{name}".rstrip("/")

    def names(self, folder: str) -> list[str]:
        """The names of the complete files directly in a folder, sorted; empty where the folder is missing."""
        return [*self.sizes(folder)]

    @abstractmethod
    def kind(self) -> Literal["file", "folder"] | None:
        """What the root is; None where there is nothing."""

    @abstractmethod
    def sizes(self, folder: str) -> dict[str, int]:
        """The bytes of the complete files directly in a folder by name, sorted; empty where the folder is missing."""

    @abstractmethod
    def read(self, name: str) -> bytes | None:
        """The content of a file; None where there is no such file, or no longer."""

    @abstractmethod
    def open(self, name: str) -> Parts:
        """A file, to read parts of it."""

    @abstractmethod
    def size(self, name: str) -> int | None:
        """The bytes of a file; None where there is no such file."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Delete a file, if it is still there."""

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
