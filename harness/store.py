"""The ledger: Parquet files under one folder or object-store prefix, written by one process.

    jobs/PACK.parquet  curves/PACK.parquet  weights/PACK.safetensors  sweeps/NAME.json
    results/ROWS.parquet, where ROWS hashes the pack and the (job, test) pairs in the file

A pack's results are written last, under a temporary name, and then renamed: a job is done when its results are there.
Writing the same pack again replaces the same files.
"""

from __future__ import annotations

import contextlib
import json
import os
import posixpath
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow import fs
from safetensors.numpy import save

from . import schema
from .cost import History
from .errors import UserError
from .job import digest, label
from .place import locate
from .record import Outcome
from .sweep import Sweep

TEMPORARY = ".writing-"  # begins the name of a file that is not whole yet
Done = set[tuple[str, str]]  # (job id, test)


class Store:
    """What a sweep writes to."""

    def __init__(self, out: str) -> None:
        """Open for reading; `UserError` where it is a file or of a newer version."""
        self.out = out
        self.files, self.root = locate(out)
        if self._info().type == fs.FileType.File:
            raise UserError(f"--out {out} is a file; it must be a folder, or one that can be made")
        if self._info("store.json").type == fs.FileType.File:
            found = self._read_schema()
            if found > schema.VERSION:
                raise UserError(
                    f"{out} was written by a newer lfombench: its schema is {found}, "
                    f"this one knows up to {schema.VERSION}"
                )

    def create(self) -> None:
        """Make the folders, and sweep up what a killed writer left half-written."""
        try:
            for name in ("results", "jobs", "curves", "weights", "sweeps"):
                self.files.create_dir(f"{self.root}/{name}", recursive=True)
            for info in self.files.get_file_info(fs.FileSelector(self.root, recursive=True, allow_not_found=True)):
                if info.base_name.startswith(TEMPORARY):
                    self.files.delete_file(info.path)
            self._write("store.json", json.dumps({"schema": schema.VERSION}).encode())
        except OSError as error:
            raise self._unwritable(error) from error

    def done(self) -> Done:
        """Every (job id, test) with results."""
        table = self._table("results", ["job", "test"])
        return set(zip(table["job"].to_pylist(), table["test"].to_pylist(), strict=True))

    def history(self, device: str) -> History:
        """What packs have cost on a device, and the widths that were too much for it."""
        columns = ["structure", "pack_seconds", "prior_seconds", "pack_memory", "prior_memory"]
        table = self._table("jobs", ["pack", *columns], pc.field("device") == device)
        packs = {row["pack"]: row for row in table.to_pylist()}
        return History.of(packs.values(), self._widths().get(device, {}))

    def too_wide(self, device: str, structure: str, jobs: int) -> None:
        """Remember that packs of a structure run out of memory on a device from so many jobs on."""
        known = self._widths()
        mine = known.setdefault(device, {})
        mine[structure] = max(1, min(jobs // 2, mine.get(structure, jobs)))
        self._write("widths.json", json.dumps(known, indent=1, sort_keys=True).encode())

    def _widths(self) -> dict[str, dict[str, int]]:
        if self._info("widths.json").type != fs.FileType.File:
            return {}
        with self.files.open_input_stream(f"{self.root}/widths.json") as stream:
            found: dict[str, dict[str, int]] = json.loads(stream.read())
        return found

    def want(self, sweep: Sweep) -> None:
        """Record which jobs a sweep wants, what it skips, and each sweep that is a part of it."""
        wanted = _wanted(sweep)
        left_out = wanted["skipped"]
        try:
            self._write(f"sweeps/{sweep.name}.json", json.dumps(wanted, indent=1).encode())
            if left_out:
                rows = [
                    {name: row[name] for name in ("task", "solver", "protocol", "reason")}
                    | {"job": digest(row), "status": "skipped", "depth": row["depth"], "finished": datetime.now(UTC)}
                    for row in left_out
                ]
                table = pa.Table.from_pylist(rows, schema=schema.arrow("jobs"))
                self._write(f"jobs/skipped-{sweep.name}.parquet", _parquet(table))
        except OSError as error:
            raise self._unwritable(error) from error
        for part in sweep.parts:
            if part.name != sweep.name:
                self.want(part)

    def commit(self, outcome: Outcome, done: Done) -> None:
        """Add a pack: the rows that are not there yet, results last. `done` grows by what was added.

        A job that was done before, and was run once more for a further test, keeps its weights, curve and record.
        """
        jobs = outcome.tables["jobs"].select(["job", "task"]).to_pylist()
        known = {row["job"] for row in jobs if (row["job"], row["task"]) in done}
        old = pa.array(sorted(known), pa.string())
        tables = {name: rows.filter(pc.invert(pc.is_in(rows["job"], old))) for name, rows in outcome.tables.items()}
        weights = {name: value for name, value in outcome.weights.items() if name.partition("/")[0] not in known}
        results = outcome.tables["results"]
        keys = list(zip(results["job"].to_pylist(), results["test"].to_pylist(), strict=True))
        results = results.filter(pa.array([key not in done for key in keys], pa.bool_()))
        added = sorted(set(keys) - done)
        try:
            if weights:
                self._write(f"weights/{outcome.pack}.safetensors", save(weights))
            for name in ("curves", "jobs"):
                if tables[name].num_rows:
                    self._write(f"{name}/{outcome.pack}.parquet", _parquet(tables[name]))
            if added:
                self._write(f"results/{digest([outcome.pack, added])}.parquet", _parquet(results))
        except OSError as error:
            raise self._interrupted(error) from error
        done.update(added)

    def write(self, name: str, text: str) -> None:
        """A file beside the tables."""
        try:
            self.files.create_dir(f"{self.root}/{posixpath.dirname(name)}", recursive=True)
            self._write(name, text.encode())
        except OSError as error:
            raise self._unwritable(error) from error

    def rows(self, table: str, ids: set[str]) -> pa.Table:
        """The rows of these jobs; of the jobs table, each job's latest."""
        found = self._table(table, None, pc.field("job").isin(list(ids)))
        if table == "jobs":
            latest = {
                job: i
                for i, job in sorted(enumerate(found["job"].to_pylist()), key=lambda x: found["finished"][x[0]].as_py())
            }
            found = found.take(pa.array(sorted(latest.values()), pa.int64()))
        return found

    def _table(self, table: str, columns: list[str] | None, where: pc.Expression | None = None) -> pa.Table:
        selector = fs.FileSelector(f"{self.root}/{table}", allow_not_found=True)
        paths = [
            i.path
            for i in self.files.get_file_info(selector)
            if i.base_name.endswith(".parquet") and i.base_name[0] != "."
        ]
        data = ds.dataset(sorted(paths), schema=schema.arrow(table), format="parquet", filesystem=self.files)
        return data.to_table(columns=columns, filter=where)

    def _info(self, name: str = "") -> fs.FileInfo:
        return self.files.get_file_info(f"{self.root}/{name}".rstrip("/"))

    def _read_schema(self) -> int:
        with self.files.open_input_stream(f"{self.root}/store.json") as stream:
            try:
                found = json.loads(stream.read())["schema"]
            except (ValueError, TypeError, KeyError, IndexError):
                found = None
        if type(found) is not int or found < 1:
            raise UserError(f"{self.out}/store.json is damaged: it must read {json.dumps({'schema': schema.VERSION})}")
        return found

    def _write(self, name: str, content: bytes | pa.Buffer) -> None:
        folder, base = posixpath.split(f"{self.root}/{name}")
        temporary = f"{folder}/{TEMPORARY}{os.getpid()}-{base}"
        try:
            with self.files.open_output_stream(temporary) as stream:
                stream.write(content)
            if isinstance(self.files, fs.LocalFileSystem):  # on disk before it has its name, whatever the power does
                with open(temporary, "rb") as written:
                    os.fsync(written.fileno())
            self.files.move(temporary, f"{self.root}/{name}")
        except OSError:
            with contextlib.suppress(OSError):
                self.files.delete_file(temporary)
            raise

    def _unwritable(self, error: OSError) -> UserError:
        return UserError(f"--out {self.out} cannot be written: {error.strerror or error}")

    def _interrupted(self, error: OSError) -> UserError:
        return UserError(
            f"{self._unwritable(error)}. What was committed before is safe; the same command goes on from there"
        )


def _wanted(sweep: Sweep) -> dict[str, Any]:
    """A sweep as the store remembers it: its own jobs, and the names of the sweeps that are parts of it."""
    own = [part for part in sweep.parts if part.name == sweep.name] or ([] if sweep.parts else [sweep])
    entries = [entry for part in own for entry in part.entries()]
    return {
        "name": sweep.name,
        "about": sweep.about.strip(),
        "protocols": list(dict.fromkeys(label(protocol) for part in own for protocol in part.protocols)),
        "jobs": list(dict.fromkeys(job.id for job, _ in entries)),
        "tests": list(dict.fromkeys(label(task) for part in own for task in part.tests)),
        "skipped": [
            {
                "task": label(skipped.task),
                "solver": label(skipped.solver),
                "depth": skipped.solver.depth,
                "protocol": label(skipped.protocol),
                "reason": skipped.reason,
            }
            for part in own
            for skipped in part.skipped
        ],
        "axis": next((part.axis for part in own if part.axis), None),
        "split": next((list(part.split) for part in own if part.split), []),
        "parts": [part.name for part in sweep.parts if part.name != sweep.name],
    }


def _parquet(table: pa.Table) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()
