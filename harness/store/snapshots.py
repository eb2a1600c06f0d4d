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
KEPT = 8  # snapshots behind the last, for readers that are slow


class File(NamedTuple):
    """A file of a table."""

    name: str
    rows: int
    bytes: int


@dataclass(frozen=True)
class Snapshot:
    """A store at a moment: the files of each table, in the order they were committed."""

    number: int = 0
    files: Mapping[str, Sequence[File]] = field(default_factory=dict)

    def paths(self, table: str) -> list[str]:
        """Of a table, relative to the store."""
        return [f"{table}/{file.name}" for file in self.files.get(table, ())]

    def changed(self, add: Mapping[str, Sequence[File]], remove: Mapping[str, Sequence[File]]) -> Snapshot:
        """The next one. What is added comes last; but where files are removed, in place of the last of them."""
        files = {}
        for table in schema.TABLES:
            old, gone, new = list(self.files.get(table, ())), set(remove.get(table, ())), list(add.get(table, ()))
            at = max((i for i, file in enumerate(old) if file in gone), default=len(old) - 1) + 1
            files[table] = [f for f in old[:at] if f not in gone] + new + old[at:]
        return Snapshot(self.number + 1, files)

    @property
    def content(self) -> bytes:
        """As a file."""
        return json.dumps({"files": {table: list(files) for table, files in self.files.items()}}).encode()


def latest(place: Place) -> Snapshot:
    """What a store holds now. A snapshot that a disk without hard links left cut short does not count."""
    while True:
        numbers = [int(name.removesuffix(".json")) for name in place.names(LOG)]
        for number in sorted(numbers, reverse=True):
            content = place.read(_name(number))
            if content is None:
                break  # made room for later ones meanwhile
            try:
                found = json.loads(content)["files"]
                return Snapshot(max(numbers), {table: [File(*one) for one in files] for table, files in found.items()})
            except (ValueError, TypeError, KeyError):
                continue
        else:
            return Snapshot(max(numbers, default=0))


def follow(place: Place, snapshot: Snapshot) -> bool:
    """Make this the latest snapshot; False where another writer was there before."""
    if not place.create(_name(snapshot.number), snapshot.content):
        return False
    numbers = [int(name.removesuffix(".json")) for name in place.names(LOG)]
    if max(numbers, default=snapshot.number) > snapshot.number:  # so late that its number had been given away again
        place.delete(_name(snapshot.number))
        return False
    for number in numbers:
        if number < snapshot.number - KEPT:
            place.delete(_name(number))
    return True


def _name(number: int) -> str:
    return f"{LOG}/{number:08d}.json"


def dataset(place: Place, table: str, paths: Sequence[str]) -> ds.Dataset:
    """Files of a table, as Arrow sees them: columns that older ones lack are null."""
    where = [place.path(path) for path in paths]
    return ds.dataset(where, schema=schema.arrow(table), format="parquet", filesystem=place.files)


def read(place: Place, table: str, use: Callable[[ds.Dataset], T]) -> T:
    """What `use` makes of a table's files. Once more where they were merged into others meanwhile."""
    while True:
        snapshot = latest(place)
        try:
            return use(dataset(place, table, snapshot.paths(table)))
        except FileNotFoundError as error:
            if latest(place).number == snapshot.number:
                raise UserError(
                    f"a file of the store is missing: {error}; the next run makes its rows again"
                ) from error
