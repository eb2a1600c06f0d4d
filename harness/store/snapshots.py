"""Which files a store consists of: snapshots, numbered, of which the last counts.

    log/00000012.json   {"files": {"results": [[name, rows, bytes], ...], "jobs": [...], ...},
                         "crc": {name: CRC-32 of the file}, "footer": {name: CRC-32 of its footer},
                         "columns": {name: CRC-32 of each column of each row group, base64}}

A commit writes its data under new names and then creates the next snapshot, which lists them as well: all tables
change in one step. Of two writers that create the same number one succeeds; the other reads what came in between and
tries the next. So no clock and no lock decides what a store holds. (Delta Lake and Iceberg do likewise.)
"""

from __future__ import annotations

import functools
import json
import logging
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ..errors import UserError
from . import schema
from .place import Place

log = logging.getLogger("lfombench")

LOG = "log"
NAME = re.compile(r"\d+\.json")
DATA_FILE = re.compile(r"\d{8,}-[0-9a-f]+\.parquet")  # the commit, the driver and a count
HISTORY = 8  # snapshots kept behind the last, for readers that are slow
SUMS = ("crc", "footer", "columns")  # checksums of files
LATE = 120.0  # seconds after which a disk must list a folder as it is


class File(NamedTuple):
    """A data file of a table: its size in rows and bytes; and its CRC-32, that of its footer alone, and those of its
    columns, as `footer.sums` has them, which older stores lack.
    """

    name: str
    rows: int
    bytes: int
    crc: int | None = None
    footer: int | None = None
    columns: str | None = None


Replaced = Mapping[File, File | None]  # what stands in the place of files of a table


@dataclass(frozen=True)
class Snapshot:
    """A store at a moment: the files of each table, in the order they were committed."""

    number: int = 0
    files: Mapping[str, Sequence[File]] = field(default_factory=dict)

    def paths(self, table: str) -> list[str]:
        """The data files of a table, relative to the store."""
        return [f"{table}/{file.name}" for file in self.files.get(table, ())]

    @property
    def all(self) -> set[tuple[str, File]]:
        """Each file, with its table."""
        return {(table, file) for table, files in self.files.items() for file in files}

    def changed(self, add: Mapping[str, Sequence[File]], replace: Mapping[str, Replaced]) -> Snapshot:
        """The next snapshot: with added files, which come last, and others, or none, in the place of replaced ones."""
        files = {}
        for table in schema.TABLES:
            by = replace.get(table, {})
            kept = (by.get(file, file) for file in self.files.get(table, ()))
            files[table] = [file for file in kept if file is not None] + list(add.get(table, ()))
        return Snapshot(self.number + 1, files)

    @property
    def content(self) -> bytes:
        """The snapshot as its file has it."""
        files = {table: [file[:3] for file in files] for table, files in self.files.items()}
        each = [file for of_table in self.files.values() for file in of_table]
        sums = {
            sum_: {file.name: value for file in each if (value := getattr(file, sum_)) is not None} for sum_ in SUMS
        }
        return json.dumps({"files": files, **sums}).encode()


def latest(place: Place) -> Snapshot:
    """The latest snapshot of a store. One that a disk without hard links left cut short does not count.

    A disk that several machines share may list a folder as it was a while ago: the next numbers are asked for by name.
    """
    begin = time.monotonic()
    while True:
        listed = _numbers(place)
        unlisted = dict(_following(place, max(listed, default=0)))
        numbers = sorted([*listed, *unlisted], reverse=True)
        for number in numbers:
            content = unlisted.get(number) or place.read(_name(number))
            if content is None:
                break  # deleted meanwhile: there are later ones
            files = _files(content)
            if files is not None:
                return Snapshot(numbers[0], files)
            _warn(f"{place.path(_name(number))} is damaged: what was committed last runs again")
        else:
            return Snapshot(max(numbers, default=0))
        if time.monotonic() - begin > LATE:
            raise UserError(f"{place.path(_name(numbers[0]))} is listed, but is not there; look after this disk")
        time.sleep(0.05)


def orphans(place: Place) -> list[str]:
    """Data files that a snapshot once listed, where no snapshot is left: a commit names its files after the snapshot
    that it makes, so those of a second one, and all beside them, are not what a killed driver left of the first.
    """
    names = [f"{table}/{name}" for table in schema.TABLES for name in place.names(table) if DATA_FILE.fullmatch(name)]
    later = any(int(name.partition("/")[2].partition("-")[0]) > 1 for name in names)
    return names if later and not latest(place).files else []


def _following(place: Place, number: int) -> Iterator[tuple[int, bytes]]:
    """The snapshots after this number, without a gap, and what they hold."""
    while (content := place.read(_name(number := number + 1))) is not None:
        yield number, content


def _numbers(place: Place) -> list[int]:
    """The numbers of a store's snapshots; what others have put beside them is left alone."""
    names = place.names(LOG)
    return [int(name[:-5]) for name in names if NAME.fullmatch(name) and _name(int(name[:-5])) == f"{LOG}/{name}"]


def _files(content: bytes) -> dict[str, list[File]] | None:
    """The files of each table that a snapshot lists; None where it is damaged."""
    try:
        plain = json.loads(content)
        tables, sums = plain["files"], [plain.get(name, {}) for name in SUMS]
        sound = all(DATA_FILE.fullmatch(name) for entries in tables.values() for name, *_ in entries)
        sound &= all(type(n) is int for entries in tables.values() for _, *numbers in entries for n in numbers)
        if not sound or not tables.keys() <= schema.TABLES.keys():
            return None
        return {
            table: [File(name, rows, size, *(each.get(name) for each in sums)) for name, rows, size in entries]
            for table, entries in tables.items()
        }
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


@functools.cache
def _warn(text: str) -> None:
    """Log a warning, once."""
    log.warning("%s", text)


def follow(place: Place, snapshot: Snapshot) -> bool:
    """Make this the latest snapshot; False where another writer made one of its number before."""
    if not place.create(_name(snapshot.number), snapshot.content):
        return False
    numbers = _numbers(place)
    if max(numbers, default=snapshot.number) > snapshot.number:  # so late that its number had been given away again
        place.delete(_name(snapshot.number))
        return False
    for number in numbers:
        if number < snapshot.number - HISTORY:
            place.delete(_name(number))
    return True


def _name(number: int) -> str:
    return f"{LOG}/{number:08d}.json"
