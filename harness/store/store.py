"""The ledger: Parquet files in a folder or bucket. A driver opens it, commits to it, and swaps files in it.

    results/*.parquet  jobs/*.parquet  curves/*.parquet  weights/*.parquet  sweeps/NAME.json  code/FINGERPRINT.json
    log/NUMBER.json, the snapshot that says which of those files count

A job is done when its results are there, and they are there with its record, curve and weights or not at all.
Questions to a store are functions in `queries.py`; what stands beside its tables is in `side_files.py`.
"""

from __future__ import annotations

import itertools
import logging
import secrets
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import UserError
from . import schema, side_files, snapshots, version
from .filesystem import place
from .footer import sums
from .outcome import Outcome
from .rows import Rows
from .snapshots import DATA_FILE, File, Replaced, Snapshot
from .version import is_store

log = logging.getLogger("lfombench")

STALE = "stale"  # the folder of rows that were set aside
GROUP = 32 << 20  # bytes of a row group, before compression: what is read at once


class Store:
    """A store that is open for reading and, after `create`, for writing by this driver."""

    def __init__(self, out: str) -> None:
        """Open for reading; `UserError` where `out` is a file, or a store of another schema version."""
        self.out = out
        self.place = place(out)
        self.token = secrets.token_hex(3)  # tells this driver's files from those of others
        self.count = itertools.count()
        self.snapshot = Snapshot()
        self.others: dict[str, set[str]] = {}  # tests by job that other drivers have committed since this opened
        if self.place.kind() == "file":
            raise UserError(f"--out {out} is a file; it must be a folder, or one that can be made")
        if self.place.kind() == "folder" and is_store(self.place, out):
            self.snapshot = snapshots.latest(self.place)

    def create(self) -> None:
        """Make the store where there is none; UserError where it cannot be written."""
        try:
            self.place.put(version.FILE, version.CONTENT.encode())
            self.snapshot = snapshots.latest(self.place)
        except OSError as error:
            raise self._unwritable(error) from error

    def remove_uncommitted(self) -> None:
        """Delete what a killed driver left: half-written files, and data files that are in no snapshot; where what said
        which are is lost, set these aside.
        """
        self.snapshot = snapshots.latest(self.place)
        self.place.sweep()
        lost = snapshots.orphans(self.place)
        for path in lost:
            self.place.move(path, f"{STALE}/{path.replace('/', '-')}")
        if lost:
            log.warning(
                "%s is gone or damaged: %d data files are set aside in %s, and their jobs run again",
                self.place.path(snapshots.LOG),
                len(lost),
                self.place.path(STALE),
            )
        for table in schema.TABLES:
            committed = {file.name for file in self.snapshot.files.get(table, ())}
            for name in self.place.names(table):
                if name not in committed and DATA_FILE.fullmatch(name):
                    self.place.delete(f"{table}/{name}")

    def commit(self, outcomes: Sequence[Outcome]) -> None:
        """Add the rows of finished packs, all tables in one step."""
        codes = {code: parts for outcome in outcomes for code, parts in outcome.code.items()}
        try:
            side_files.keep_code(self.place, codes)
            self.add({name: pa.concat_tables([each.tables[name] for each in outcomes]) for name in schema.TABLES})
        except OSError as error:
            raise UserError(
                f"{self._unwritable(error)}. What was committed before is safe; the same command goes on from there"
            ) from error

    def add(self, tables: Mapping[str, pa.Table]) -> None:
        """Add rows to tables in one step, without those that another driver has committed since this opened."""
        while True:
            if self.others:
                tables = {name: _without(rows, self.others) for name, rows in tables.items()}
            files = {name: self.write_table(name, [rows]) for name, rows in tables.items() if rows.num_rows}
            if self.swap({name: [file] for name, file in files.items()}, {}):
                return
            for name, file in files.items():
                self.discard(name, file)

    def write_table(self, table: str, parts: Iterable[pa.Table]) -> File:
        """A new data file of a table, which counts once a snapshot lists it."""
        content, rows = parquet(table, parts)
        name = f"{self.snapshot.number + 1:08d}-{self.token}{next(self.count):x}.parquet"
        self.place.put(f"{table}/{name}", content)
        return File(name, rows, len(content), zlib.crc32(content), *sums(content))

    def discard(self, table: str, file: File) -> None:
        """Delete a data file that is in no snapshot."""
        self.place.delete(f"{table}/{file.name}")

    def swap(self, add: Mapping[str, Sequence[File]], replace: Mapping[str, Replaced]) -> bool:
        """Make the next snapshot, and delete the replaced files. False where another driver made that snapshot first:
        this one has then caught up with it, and nothing was added.
        """
        before, following = self.snapshot, self.snapshot.changed(add, replace)
        if snapshots.follow(self.place, following):
            self.snapshot = following
        else:
            self.catch_up()
            # It may stand all the same: another driver built upon it before it was seen to be the last, or the cloud
            # took it and lost the answer, and refused it when it was sent again.
            if self.snapshot.all.isdisjoint(following.all - before.all):
                return False
        for table, files in replace.items():
            for file in files:
                self.discard(table, file)
        return True

    def catch_up(self) -> None:
        """Take over another driver's snapshot, and note what it has committed, which is not to be added again."""
        before = set(self.snapshot.files.get("results", ()))
        while True:
            self.snapshot = snapshots.latest(self.place)
            new = [file for file in self.snapshot.files.get("results", ()) if file not in before]
            try:
                rows = Rows(self.place, "results", new).read(["job", "test"])
            except OSError:
                if snapshots.latest(self.place).number == self.snapshot.number:
                    raise
                continue  # merged into another file meanwhile
            for job, test in zip(rows["job"].to_pylist(), rows["test"].to_pylist(), strict=True):
                self.others.setdefault(job, set()).add(test)
            return

    def write(self, name: str, text: str) -> None:
        """Write a file beside the tables; UserError where it cannot be written."""
        try:
            self.place.put(name, text.encode())
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> UserError:
        name = error.filename2 or error.filename
        at = f"{name}: " if name else ""
        return UserError(f"--out {self.out} cannot be written: {at}{error.strerror or error}")


def _without(rows: pa.Table, known: Mapping[str, set[str]]) -> pa.Table:
    """The rows that are not of these jobs and tests; in a table without tests, not of these jobs."""
    jobs = rows["job"].to_pylist()
    tests = rows["test"].to_pylist() if "test" in rows.column_names else [None] * len(jobs)
    is_known = [job in known and (test is None or test in known[job]) for job, test in zip(jobs, tests, strict=True)]
    return rows.filter(pa.array([not known for known in is_known], pa.bool_()))


def _groups(parts: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Tables of GROUP bytes, about, and the rest: small row groups take long to read."""
    held, size = list[pa.Table](), 0
    for part in parts:
        held.append(part.combine_chunks())  # of thousands of packs; what counts and writes them looks at each chunk
        size += held[-1].nbytes
        if size >= GROUP:
            yield pa.concat_tables(held)
            held.clear()
            size = 0
    if held:
        yield pa.concat_tables(held)


def parquet(table: str, parts: Iterable[pa.Table]) -> tuple[pa.Buffer, int]:
    """The content of a Parquet file with these rows of a table, and their number."""
    sink, rows = pa.BufferOutputStream(), 0
    fields = schema.arrow(table)
    strings = [f.name for f in fields if pa.types.is_string(f.type)]  # a dictionary of numbers would only take time
    # the digits of an error are noise: zstd takes three times as long to read for a twentieth of the bytes
    paths = [f"{f.name}.list.element" if pa.types.is_list(f.type) else f.name for f in fields]
    compression = {
        path: "lz4" if pa.types.is_floating(f.type) else "zstd" for path, f in zip(paths, fields, strict=True)
    }
    with pq.ParquetWriter(
        sink, fields, compression=compression, use_dictionary=strings, write_page_checksum=True
    ) as writer:
        for group in _groups(parts):
            writer.write_table(group, row_group_size=group.num_rows or None)
            rows += group.num_rows
    return sink.getvalue(), rows
