"""The ledger: Parquet files under one folder or S3 prefix, a driver's own while it runs.

    results/*.parquet  jobs/*.parquet  curves/*.parquet  weights/*.parquet  sweeps/NAME.json  code/FINGERPRINT.json
    log/NUMBER.json, the snapshot that says which of those files count

A job is done when its results are there, and they are there with its record, curve and weights or not at all.
"""

from __future__ import annotations

import itertools
import json
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow import fs

from ..errors import UserError
from ..scheduler.pending import Record
from ..spec import fingerprint
from ..training.cost import History
from ..training.execute import Outcome
from . import schema, snapshots
from .filesystem import place
from .snapshots import File, Snapshot

NOTHING: Record = frozenset()
OURS = re.compile(r"\d{8}-[0-9a-f]+\.parquet")  # data files' names: the commit, the driver and a count


class Store:
    """What a sweep writes to."""

    def __init__(self, out: str) -> None:
        """Open for reading; `UserError` where it is a file or of a newer version."""
        self.out = out
        self.place = place(out)
        self.token = secrets.token_hex(3)
        self.count = itertools.count()
        self.snapshot = Snapshot()
        self.others: dict[str, set[str]] = {}  # jobs and tests that another driver has committed since
        if self.place.kind() == fs.FileType.File:
            raise UserError(f"--out {out} is a file; it must be a folder, or one that can be made")
        content = self.place.read("store.json") if self.place.kind() == fs.FileType.Directory else None
        if content is not None:
            found = self._schema(content)
            if found != schema.VERSION:
                age = "a newer" if found > schema.VERSION else "an older"
                raise UserError(
                    f"{out} was written by {age} lfombench: its schema is {found}, this one reads {schema.VERSION}"
                )
            self.snapshot = snapshots.latest(self.place)

    def create(self) -> None:
        """Make it."""
        try:
            self.place.put("store.json", json.dumps({"schema": schema.VERSION}).encode())
            self.snapshot = snapshots.latest(self.place)
        except OSError as error:
            raise self._unwritable(error) from error

    def tidy_up(self) -> None:
        """Sweep up what a killed driver left: half-written files, and those that were never committed."""
        self.snapshot = snapshots.latest(self.place)
        self.place.sweep()
        for table in schema.TABLES:
            known = {file.name for file in self.snapshot.files.get(table, ())}
            for name in self.place.names(table):
                if name not in known and OURS.fullmatch(name):
                    self.place.delete(f"{table}/{name}")

    # ---- reading ----------------------------------------------------------------------------------------------------

    def done(self) -> dict[str, Record]:
        """What there is of every job with results."""
        found: dict[str, Record] = {}
        more: dict[tuple[Record, str, str], Record] = {}  # a record and one test more; shared by all jobs that have it

        def gather(data: ds.Dataset) -> None:
            found.clear()
            for batch in data.to_batches(columns=["job", "test", "code"], filter=pc.field("step") == 0):
                for job, test, code in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    key = found.get(job, NOTHING), test, code or ""
                    record = more.get(key)
                    if record is None:
                        record = more[key] = key[0] | {key[1:]}
                    found[job] = record

        snapshots.read(self.place, "results", gather)
        return found

    def failed(self) -> dict[str, str]:
        """Why a job failed when it was last tried, by id."""
        table = self._table("jobs", ["job", "status", "reason"])
        last = pl.DataFrame(pl.from_arrow(table)).unique("job", keep="last", maintain_order=True)
        found = last.filter(pl.col("status") == "failed")
        return dict(zip(found["job"], found["reason"], strict=True))

    def diverged(self) -> set[str]:
        """Jobs that did."""
        return set(self.column("jobs", "job", pc.field("status") == "diverged"))

    def all(self, table: str, columns: list[str] | None = None) -> pa.Table:
        """Every row."""
        return self._table(table, columns)

    def wanting(self) -> dict[str, list[str]]:
        """The jobs that each sweep wants, by its name."""
        names = self.place.names("sweeps")
        read = {name.removesuffix(".json"): self.place.read(f"sweeps/{name}") or b"{}" for name in names}
        return {name: json.loads(content).get("jobs", []) for name, content in read.items()}

    def wanted_by(self, sweep: str) -> set[str]:
        """The jobs that a sweep and its parts want."""
        found = json.loads(self.place.read(f"sweeps/{sweep}.json") or b"{}")
        return set(found.get("jobs", ())).union(*(self.wanted_by(part) for part in found.get("parts", ())))

    def modules(self, code: str) -> dict[str, str]:
        """What a fingerprint was made of; nothing where that is not known."""
        found: dict[str, str] = json.loads(self.place.read(f"code/{code}.json") or b"{}")
        return found

    def explain(self, old: str, now: Mapping[str, str]) -> str:
        """What changed since a fingerprint: files. now: the modules of the code that is here."""
        before = self.modules(old)
        return ", ".join(fingerprint.changed(before, now)) + " changed" if before else "its code changed"

    def history(self, device: str) -> History:
        """What packs have cost on a device, and the widths that were too much for it."""
        columns = ["structure", "pack_seconds", "prior_seconds", "pack_memory", "prior_memory"]
        table = self._table("jobs", ["pack", *columns], pc.field("device") == device)
        packs = pl.DataFrame(pl.from_arrow(table)).unique("pack", keep="last", maintain_order=True)
        return History.of(packs.iter_rows(named=True), self._widths().get(device, {}))

    def rows(self, table: str, ids: set[str]) -> pa.Table:
        """The rows of these jobs; of the jobs table, each job's latest."""
        found = self._table(table, None, pc.field("job").isin(list(ids)))
        if table == "jobs":
            last = {job: i for i, job in enumerate(found["job"].to_pylist())}
            found = found.take(pa.array(sorted(last.values()), pa.int64()))
        return found

    def column(self, table: str, name: str, where: pc.Expression | None = None) -> list[Any]:
        """A column of all rows, or of some."""
        found: list[Any] = self._table(table, [name], where)[name].to_pylist()
        return found

    def _table(self, table: str, columns: list[str] | None, where: pc.Expression | None = None) -> pa.Table:
        return snapshots.read(self.place, table, lambda data: data.to_table(columns=columns, filter=where))

    # ---- writing ----------------------------------------------------------------------------------------------------

    def commit(self, outcomes: Sequence[Outcome]) -> None:
        """Add packs, all their tables in one step."""
        codes = {code: modules for outcome in outcomes for code, modules in outcome.code.items()}
        try:
            self.know(codes)
            self.add({name: pa.concat_tables([each.tables[name] for each in outcomes]) for name in schema.TABLES})
        except OSError as error:
            raise self._interrupted(error) from error

    def add(self, tables: Mapping[str, pa.Table]) -> None:
        """Add rows to tables, in one step. What another driver has committed since this opened is left out."""
        while True:
            if self.others:
                tables = {name: _without(rows, self.others) for name, rows in tables.items()}
            add = {name: self.written(name, [rows]) for name, rows in tables.items() if rows.num_rows}
            if self.swap({name: [file] for name, file in add.items()}, {}):
                return
            for name, file in add.items():
                self.discard(name, file)

    def written(self, table: str, parts: Iterable[pa.Table]) -> File:
        """A new file of a table, not yet in any snapshot."""
        content, rows = parquet(table, parts)
        name = f"{self.snapshot.number + 1:08d}-{self.token}{next(self.count):x}.parquet"
        self.place.put(f"{table}/{name}", content)
        return File(name, rows, len(content))

    def discard(self, table: str, file: File) -> None:
        """Remove a file that is in no snapshot."""
        self.place.delete(f"{table}/{file.name}")

    def swap(self, add: Mapping[str, Sequence[File]], remove: Mapping[str, Sequence[File]]) -> bool:
        """The next snapshot, and the removed files gone; False where another driver made one, which is ours then."""
        made = self.snapshot.changed(add, remove)
        if snapshots.follow(self.place, made):
            self.snapshot = made
        else:
            self.catch_up()
            if not self._counts(add):
                return False
        for table, files in remove.items():
            for file in files:
                self.discard(table, file)
        return True

    def _counts(self, add: Mapping[str, Sequence[File]]) -> bool:
        """Whether a commit that looked beaten stands: another driver built upon it before it was seen to be the last,
        or S3 took it and lost the answer, and refused it when it was sent again.
        """
        listed = self.snapshot.files
        return any(file in listed.get(table, ()) for table, files in add.items() for file in files)

    def write(self, name: str, text: str) -> None:
        """A file beside the tables."""
        try:
            self.place.put(name, text.encode())
        except OSError as error:
            raise self._unwritable(error) from error

    def too_wide(self, device: str, structure: str, jobs: int) -> None:
        """Remember that packs of a structure run out of memory on a device from so many jobs on."""
        known = self._widths()
        mine = known.setdefault(device, {})
        mine[structure] = max(1, min(jobs // 2, mine.get(structure, jobs)))
        self.write("widths.json", json.dumps(known, indent=1, sort_keys=True))

    def _widths(self) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = json.loads(self.place.read("widths.json") or "{}")
        return found

    def know(self, codes: Mapping[str, Mapping[str, str]]) -> None:
        """Keep what modules a fingerprint was made of, to say later which has changed."""
        for code, modules in codes.items():
            if self.place.kind(f"code/{code}.json") != fs.FileType.File:
                self.place.put(f"code/{code}.json", json.dumps(modules, indent=1, sort_keys=True).encode())

    def catch_up(self) -> None:
        """Another driver's snapshot is ours now; and what it has added, or merged, is not to be added again."""
        before = set(self.snapshot.paths("results"))
        while True:
            self.snapshot = snapshots.latest(self.place)
            new = [path for path in self.snapshot.paths("results") if path not in before]
            try:
                found = snapshots.dataset(self.place, "results", new).to_table(columns=["job", "test"])
            except FileNotFoundError:  # merged meanwhile
                continue
            for job, test in zip(found["job"].to_pylist(), found["test"].to_pylist(), strict=True):
                self.others.setdefault(job, set()).add(test)
            return

    def _schema(self, content: bytes) -> int:
        try:
            found = json.loads(content)["schema"]
        except (ValueError, TypeError, KeyError, IndexError):
            found = None
        if type(found) is not int or found < 1:
            raise UserError(f"{self.out}/store.json is damaged: it must read {json.dumps({'schema': schema.VERSION})}")
        return found

    def _unwritable(self, error: OSError) -> UserError:
        return UserError(f"--out {self.out} cannot be written: {error.strerror or error}")

    def _interrupted(self, error: OSError) -> UserError:
        return UserError(
            f"{self._unwritable(error)}. What was committed before is safe; the same command goes on from there"
        )


def _without(rows: pa.Table, known: Mapping[str, set[str]]) -> pa.Table:
    """Rows that are not of these jobs and tests; in tables without tests, not of these jobs."""
    jobs = rows["job"].to_pylist()
    tests = rows["test"].to_pylist() if "test" in rows.column_names else [None] * len(jobs)
    there = [job in known and (test is None or test in known[job]) for job, test in zip(jobs, tests, strict=True)]
    return rows.filter(pa.array([not one for one in there], pa.bool_()))


def parquet(table: str, parts: Iterable[pa.Table]) -> tuple[pa.Buffer, int]:
    """Rows of a table as the content of a file, and how many they are."""
    sink, rows = pa.BufferOutputStream(), 0
    fields = schema.arrow(table)
    repeated = [f.name for f in fields if pa.types.is_string(f.type)]  # of numbers a dictionary only takes time
    with pq.ParquetWriter(sink, fields, compression="zstd", use_dictionary=repeated) as writer:
        for part in parts:
            writer.write_table(part)
            rows += part.num_rows
    return sink.getvalue(), rows
