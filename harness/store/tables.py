"""A table of the latest snapshot; and whether its files are what was written."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import UserError
from .footer import sums
from .place import Place
from .rows import Rows
from .snapshots import LOG, File, Snapshot, latest, orphans

T = TypeVar("T")
Look = Callable[[Place, str, Sequence[File]], list[File]]  # finds those of a table's files that are not as they were
READ = 256 << 20  # bytes of a table whose checksums are looked at: a fraction of a second


def read(place: Place, table: str, use: Callable[[Rows], T]) -> T:
    """What `use` returns for the rows of a table; asked again where their files were merged into others meanwhile.
    UserError where one that it reads is missing or not what was written.
    """
    while True:
        snapshot = _latest(place)
        try:
            return use(Rows(place, table, snapshot.files.get(table, ())))
        except (OSError, pa.ArrowException) as error:
            if latest(place).number != snapshot.number:
                continue  # they were merged into others meanwhile
            if isinstance(error, FileNotFoundError):
                raise UserError(
                    f"a file of the store is missing: {error}; the next run makes its rows again"
                ) from error
            verify(place, damaged)
            raise UserError(f"the table {table} cannot be read: {error}") from error


def content(place: Place, table: str, file: File) -> bytes | None:
    """What is in a data file; None where it is missing or not what was written. OSError where it cannot be fetched,
    which says nothing about it.
    """
    found = place.read(f"{table}/{file.name}")
    if found is None or file.crc is not None:
        return found if found is not None and _is_as_written(found, file) else None
    try:
        pq.ParquetFile(pa.BufferReader(found), page_checksum_verification=True).read()
    except (OSError, pa.ArrowException):  # what Arrow raises of bytes that make no sense
        return None
    return found


def _is_as_written(content: bytes, file: File) -> bool:
    """Whether all that the log says of a file holds; where that is damaged itself, readers refuse the file."""
    if zlib.crc32(content) != file.crc or pq.read_metadata(pa.BufferReader(content)).num_rows != file.rows:
        return False
    return file.footer is None or sums(pa.py_buffer(content)) == (file.footer, file.columns)


def damaged(place: Place, table: str, files: Sequence[File]) -> list[File]:
    """Those of a table's files that are missing or not what was written, of which all are read."""
    return [file for file in files if content(place, table, file) is None]


def resized(place: Place, table: str, files: Sequence[File]) -> list[File]:
    """Those of a table's files that are missing or have another size than when they were written; none is read. One
    that is not listed is asked for by name: a disk that several machines share may list a folder as it was before.
    """
    sizes = place.sizes(table)
    return [file for file in files if (sizes.get(file.name) or place.size(f"{table}/{file.name}")) != file.bytes]


def doubtful(place: Place, table: str, files: Sequence[File]) -> list[File]:
    """Those of a table's files that are not what was written. All are looked at; the newest are read too."""
    other = resized(place, table, files)
    return other + damaged(place, table, newest([file for file in files if file not in other]))


def newest(files: Sequence[File]) -> list[File]:
    """The newest of a table's files, READ bytes in all at most."""
    found: list[File] = []
    left = READ
    for file in reversed(files):
        left -= file.bytes
        if left < 0:
            break
        found.append(file)
    return found


def verify(place: Place, look: Look) -> None:
    """Raise UserError where files of a store are not what was written, as `look` finds, and name them."""
    while True:
        snapshot = _latest(place)
        bad = [f"{table}/{f.name}" for table, files in snapshot.files.items() for f in look(place, table, files)]
        if not bad:
            return
        if latest(place).number == snapshot.number:  # else they were merged into others meanwhile
            # A run looks at the newest files alone, or at all where it finds one that is bad.
            found = any(doubtful(place, table, files) for table, files in snapshot.files.items())
            them, their = ("it", "its") if len(bad) == 1 else ("them", "their")
            first = "" if found else f"delete {them}, and "
            names = ", ".join(map(place.path, bad))
            raise UserError(f"{names} cannot be read: {first}the next run makes {their} rows again")


def _latest(place: Place) -> Snapshot:
    """The latest snapshot; UserError where it says that nothing is committed because what said so is lost."""
    snapshot = latest(place)
    if not snapshot.files and (lost := orphans(place)):
        raise UserError(
            f"{place.path(LOG)}, which says what is committed, is gone or damaged, and {len(lost)} data files stand "
            "without it: bring it back, or the next run sets them aside and makes their rows again"
        )
    return snapshot
