"""Rewriting the files of a store: many into one, without jobs that must go, and after damage."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from . import queries, schema, tables
from .filesystem import Place
from .manifest import jobs_by_sweep
from .rows import Rows
from .snapshots import File
from .store import STALE, Store, parquet

LARGE = 64 << 20  # bytes of a file that is never merged again
MANY = 8  # files that are worth merging while a sweep runs
SLACK = 1.5  # a file and newer ones that are merged: it is at most so much larger than they are

Selection = Callable[[pa.Table], pa.Array]  # from rows to a mask


def compact(store: Store, many: int = MANY) -> bool:
    """Merge the newest files of a table where that makes `many` into one; False where none has so many to merge.

    The new file is at least 1 2/3 as large as the oldest of them: a row is rewritten a logarithmic number of times.
    """
    for table in schema.TABLES:
        files = list(store.snapshot.files.get(table, ()))
        old = files[mergeable([file.bytes for file in files]) :]
        if len(old) >= many:
            return rewrite(store, table, old, lambda rows: rows)
    return False


def mergeable(sizes: Sequence[int]) -> int:
    """Index of the first file of the newest run in which each file is hardly larger than all newer ones together. Not
    "no larger": files of as many rows differ by some bytes.
    """
    first, total = len(sizes), 0
    while first and sizes[first - 1] < LARGE and (not total or sizes[first - 1] <= SLACK * total):
        first -= 1
        total += sizes[first]
    return first


def rewrite(store: Store, table: str, old: Sequence[File], keep: Callable[[pa.Table], pa.Table]) -> bool:
    """Replace files by one with the rows that `keep` returns of them; False where another driver committed first."""
    try:
        batches = Rows(store.place, table, old).batches(ahead=1)
        new = store.write_table(table, (keep(pa.Table.from_batches([batch])) for batch in batches))
    except OSError:
        before = store.snapshot.number
        store.catch_up()
        if store.snapshot.number == before:
            raise
        return False
    replaced = store.swap({table: [new] if new.rows else []}, {table: old})
    if not (replaced and new.rows):
        store.discard(table, new)
    return replaced


def remove(store: Store, table: str, selection: Selection, keys: Sequence[str], aside: str | None = None) -> None:
    """Take selected rows out of a table. keys: the columns that the selection looks at; aside: a folder for them."""
    for file in list(store.snapshot.files.get(table, ())):
        data = Rows(store.place, table, [file])
        if not pc.any(selection(data.read(keys))).as_py():
            continue
        if aside:
            rows = data.read()
            store.place.put(f"{aside}/{table}-{file.name}", parquet(table, [rows.filter(selection(rows))])[0])
        rewrite(store, table, [file], lambda rows: rows.filter(pc.invert(selection(rows))))


def of_jobs(ids: Collection[str]) -> Selection:
    """Selects the rows of these jobs."""
    values = pa.array(sorted(ids), pa.string())
    return lambda rows: pc.is_in(rows["job"], values)


def of_tests(pairs: Collection[tuple[str, str]]) -> Selection:
    """Selects the results of these pairs of job and test."""

    def selection(rows: pa.Table) -> pa.Array:
        each = zip(rows["job"].to_pylist(), rows["test"].to_pylist(), strict=True)
        return pa.array([pair in pairs for pair in each], pa.bool_())

    return selection


def unwanted(store: Store) -> set[str]:
    """Jobs of the store that no sweep wants, or skips."""
    wanted = {job for jobs in jobs_by_sweep(store.place).values() for job in jobs}
    return _jobs(store.place) - wanted - _skipped(store.place)


def forget(store: Store, jobs: set[str]) -> None:
    """Delete the rows of these jobs, and everything that was set aside."""
    for table in schema.TABLES:
        remove(store, table, of_jobs(jobs), ["job"])
    for name in store.place.names(STALE):
        store.place.delete(f"{STALE}/{name}")


def set_aside(store: Store, pairs: Collection[tuple[str, str]], jobs: Collection[str]) -> None:
    """Move results of these pairs of job and test to stale/, where nothing reads them, and what else there is of jobs
    that are to be trained again.
    """
    if pairs:
        remove(store, "results", of_tests(pairs), ["job", "test"], STALE)
    if jobs:
        for table in ("jobs", "curves", "weights"):
            remove(store, table, of_jobs(jobs), ["job"], STALE)


def repair(store: Store) -> list[str]:
    """Leave out files that are missing or not as they were written, and the other rows of the jobs that were in them:
    those jobs run again. The names of those files.
    """
    lost = {table: tables.doubtful(store.place, table, files) for table, files in store.snapshot.files.items()}
    if not any(lost.values()):
        return []
    store.swap({}, lost)
    place = store.place
    jobs = {table: set(queries.column(place, table, "job")) for table in schema.TABLES}
    trained = set(queries.column(place, "jobs", "job", pl.col("params") > 0))
    complete = jobs["results"] & jobs["jobs"] - (trained - jobs["weights"])
    incomplete = set().union(*jobs.values()) - complete - _skipped(place)
    for table in schema.TABLES:
        remove(store, table, of_jobs(incomplete), ["job"])
    return [f"{table}/{file.name}" for table, files in lost.items() for file in files]


def _jobs(place: Place) -> set[str]:
    return set().union(*(queries.column(place, table, "job") for table in schema.TABLES))


def _skipped(place: Place) -> set[str]:
    return set(queries.column(place, "jobs", "job", pl.col("status") == "skipped"))
