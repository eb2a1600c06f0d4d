"""Questions to a store, each answered from its latest snapshot."""

from __future__ import annotations

from typing import Any

import polars as pl
import pyarrow as pa

from . import tables
from .outcome import Record
from .place import Place
from .rows import Rows

COST_COLUMNS = ("structure", "pack_seconds", "prior_seconds", "pack_memory", "prior_memory")


def table(place: Place, name: str, columns: list[str] | None = None, where: pl.Expr | None = None) -> pa.Table:
    """The rows of a table that fulfil a condition, in the order they were committed."""
    return tables.read(place, name, lambda rows: rows.read(columns, where))


def column(place: Place, name: str, column: str, where: pl.Expr | None = None) -> list[Any]:
    """One column of a table's rows."""
    values: list[Any] = table(place, name, [column], where)[column].to_pylist()
    return values


def rows_of(place: Place, name: str, jobs: set[str]) -> pa.Table:
    """The rows of these jobs; in the jobs table, the latest row of each."""
    rows = table(place, name, None, pl.col("job").is_in(pl.Series(sorted(jobs), dtype=pl.String).implode()))
    if name == "jobs":
        last = {job: i for i, job in enumerate(rows["job"].to_pylist())}
        rows = rows.take(pa.array(sorted(last.values()), pa.int64()))
    return rows


def done(place: Place) -> dict[str, Record]:
    """By job with results: its tests, and the code behind each."""
    records: dict[str, Record] = {}
    extended: dict[tuple[Record, str, str], Record] = {}  # a record and one test more: shared by all jobs that have it

    def gather(rows: Rows) -> None:
        records.clear()
        for batch in rows.batches(["job", "test", "code"], pl.col("step") == 0):
            for job, test, code in zip(*(values.to_pylist() for values in batch.columns), strict=True):
                key = records.get(job, frozenset()), test, code or ""
                record = extended.get(key)
                if record is None:
                    record = extended[key] = key[0] | {key[1:]}
                records[job] = record

    tables.read(place, "results", gather)
    return records


def failed(place: Place) -> dict[str, str]:
    """The traceback of each job that failed when it was last tried, by id."""
    rows = pl.DataFrame(pl.from_arrow(table(place, "jobs", ["job", "status", "reason"])))
    last = rows.unique("job", keep="last", maintain_order=True).filter(pl.col("status") == "failed")
    return dict(zip(last["job"], last["reason"], strict=True))


def diverged(place: Place) -> set[str]:
    """The jobs that diverged."""
    return set(column(place, "jobs", "job", pl.col("status") == "diverged"))


def pack_costs(place: Place, device: str) -> list[dict[str, Any]]:
    """Of every pack that ran on a device: its structure, and what it cost beside the cost model's prior."""
    rows = pl.DataFrame(pl.from_arrow(table(place, "jobs", ["pack", *COST_COLUMNS], pl.col("device") == device)))
    return rows.unique("pack", keep="last", maintain_order=True).to_dicts()
