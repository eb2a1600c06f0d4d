"""Which files a store consists of: snapshots, numbered, of which the last counts.

    log/00000012.json   {"files": {"results": [[name, rows, bytes], ...], "jobs": [...], ...}}

A commit writes its data under new names and then creates the next snapshot, which lists them as well: all tables
change in one step. Of two writers that create the same number one succeeds; the other reads what came in between and
tries the next. So no clock and no lock decides what a store holds. (Delta Lake and Iceberg do likewise.)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

import pyarrow.dataset as ds

from ..errors import UserError
from . import schema
from .filesystem import Place

T = TypeVar("T")
LOG = "log"
HISTORY = 8  # snapshots kept behind the last, for readers that are slow


class File(NamedTuple):
    """A data file of a table, with its size in rows and bytes."""

    name: str
    rows: int
    bytes: int


@dataclass(frozen=True)
class Snapshot:
    """A store at a moment: the files of each table, in the order they were committed."""

    number: int = 0
    files: Mapping[str, Sequence[File]] = field(default_factory=dict)

    def paths(self, table: str) -> list[str]:
        """The data files of a table, relative to the store."""
        return [f"{table}/{file.name}" for file in self.files.get(table, ())]

    def changed(self, add: Mapping[str, Sequence[File]], remove: Mapping[str, Sequence[File]]) -> Snapshot:
        """The next snapshot. Added files come last; where files are removed, in the place of the last removed one."""
        files = {}
        for table in schema.TABLES:
            old, removed, new = list(self.files.get(table, ())), set(remove.get(table, ())), list(add.get(table, ()))
            end = max((i for i, file in enumerate(old) if file in removed), default=len(old) - 1) + 1
            files[table] = [f for f in old[:end] if f not in removed] + new + old[end:]
        return Snapshot(self.number + 1, files)

    @property
    def content(self) -> bytes:
        """The snapshot as its file has it."""
        return json.dumps({"files": {table: list(files) for table, files in self.files.items()}}).encode()


def latest(place: Place) -> Snapshot:
    """The latest snapshot of a store. One that a disk without hard links left cut short does not count."""
    while True:
        numbers = [int(name.removesuffix(".json")) for name in place.names(LOG)]
        for number in sorted(numbers, reverse=True):
            content = place.read(_name(number))
            if content is None:
                break  # deleted meanwhile: there are later ones
            try:
                tables = json.loads(content)["files"]
                files = {table: [File(*entry) for entry in entries] for table, entries in tables.items()}
                return Snapshot(max(numbers), files)
            except (ValueError, TypeError, KeyError):
                continue
        else:
            return Snapshot(max(numbers, default=0))


def follow(place: Place, snapshot: Snapshot) -> bool:
    """Make this the latest snapshot; False where another writer made one of its number before."""
    if not place.create(_name(snapshot.number), snapshot.content):
        return False
    numbers = [int(name.removesuffix(".json")) for name in place.names(LOG)]
    if max(numbers, default=snapshot.number) > snapshot.number:  # so late that its number had been given away again
        place.delete(_name(snapshot.number))
        return False
    for number in numbers:
        if number < snapshot.number - HISTORY:
            place.delete(_name(number))
    return True


def _name(number: int) -> str:
    return f"{LOG}/{number:08d}.json"


def dataset(place: Place, table: str, paths: Sequence[str]) -> ds.Dataset:
    """Files of a table as an Arrow dataset: columns that older files lack are null."""
    full = [place.path(path) for path in paths]
    return ds.dataset(full, schema=schema.arrow(table), format="parquet", filesystem=place.files)


def read(place: Place, table: str, use: Callable[[ds.Dataset], T]) -> T:
    """What `use` returns for the files of a table; asked again where they were merged into others meanwhile."""
    while True:
        snapshot = latest(place)
        try:
            return use(dataset(place, table, snapshot.paths(table)))
        except FileNotFoundError as error:
            if latest(place).number == snapshot.number:
                raise UserError(
                    f"a file of the store is missing: {error}; the next run makes its rows again"
                ) from error
