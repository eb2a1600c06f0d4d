"""Rewriting the files of a store: many into one, without jobs that must go, and after damage."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import polars as pl
import pyarrow as pa

from . import queries, schema, tables
from .manifest import jobs_by_sweep
from .place import Place
from .rows import Rows
from .snapshots import File, Replaced
from .store import STALE, Store, parquet

LARGE = 64 << 20  # bytes of a file that is never merged again
MANY = 8  # files that are worth merging while a sweep runs
SLACK = 1.5  # a file and newer ones that are merged: it is at most so much larger than they are

SKIPPED = pl.col("status") == "skipped"

Change = Mapping[str, Replaced]  # what stands in the place of files, by table


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

    def change() -> Change:
        parts = map(_table, Rows(store.place, table, old).batches(ahead=1))
        return {table: {**dict.fromkeys(old), old[-1]: _written(store, table, map(keep, parts))}}

    return _replace(store, change)


def remove(store: Store, selected: Mapping[str, pl.Expr], aside: str | None = None) -> None:
    """Take rows out of tables, all in one step. selected: which, by table; aside: a folder for them."""

    def change() -> Change:
        files = store.snapshot.files
        return {
            table: dict(_without(store, Rows(store.place, table, files.get(table, ())), where, aside))
            for table, where in selected.items()
        }

    while not _replace(store, change):
        pass


def of_jobs(ids: Collection[str]) -> pl.Expr:
    """The rows of these jobs."""
    return pl.col("job").is_in(pl.Series(sorted(ids), dtype=pl.String).implode())


def of_tests(pairs: Collection[tuple[str, str]]) -> pl.Expr:
    """The results of these pairs of job and test."""
    tests: dict[str, list[str]] = {}
    for job, test in pairs:
        tests.setdefault(test, []).append(job)
    return pl.any_horizontal((pl.col("test") == test) & of_jobs(jobs) for test, jobs in sorted(tests.items()))


def unwanted(store: Store) -> set[str]:
    """Jobs of the store that no sweep wants, or skips."""
    wanted = {job for jobs in jobs_by_sweep(store.place).values() for job in jobs}
    return _jobs(store.place) - wanted - _skipped(store.place)


def forget(store: Store, jobs: set[str]) -> None:
    """Delete the rows of these jobs, and everything that was set aside."""
    remove(store, dict.fromkeys(schema.TABLES, of_jobs(jobs)))
    for name in store.place.names(STALE):
        store.place.delete(f"{STALE}/{name}")


def set_aside(store: Store, pairs: Collection[tuple[str, str]], jobs: Collection[str]) -> None:
    """Move results of these pairs of job and test to stale/, where nothing reads them, and what else there is of jobs
    that are to be trained again.
    """
    selected = dict.fromkeys(("jobs", "curves", "weights"), of_jobs(jobs)) if jobs else {}
    remove(store, selected | ({"results": of_tests(pairs)} if pairs else {}), STALE)


def repair(store: Store) -> list[str]:
    """Leave out files that are missing or not as they were written, and the other rows of the jobs that were in them,
    all in one step: those jobs run again. The names of those files.
    """
    lost: dict[str, list[File]] = {}

    def change() -> Change:
        files = store.snapshot.files
        lost.update({table: tables.doubtful(store.place, table, each) for table, each in files.items()})
        if not any(lost.values()):
            return {}
        for table, bad in lost.items():  # where one is, others may be
            bad += [file for file in tables.damaged(store.place, table, files[table]) if file not in bad]
        kept = {table: [file for file in files[table] if file not in bad] for table, bad in lost.items()}
        data = {table: Rows(store.place, table, kept.get(table, ())) for table in schema.TABLES}
        jobs = {table: _column(rows) for table, rows in data.items()}
        trained, skipped = (_column(data["jobs"], where) for where in (pl.col("params") > 0, SKIPPED))
        complete = jobs["results"] & jobs["jobs"] - (trained - jobs["weights"])
        incomplete = of_jobs(set().union(*jobs.values()) - complete - skipped)
        return {
            table: {**dict.fromkeys(lost.get(table, ())), **dict(_without(store, rows, incomplete))}
            for table, rows in data.items()
        }

    while not _replace(store, change):
        pass
    return [f"{table}/{file.name}" for table, files in lost.items() for file in files]


def _without(store: Store, rows: Rows, where: pl.Expr, aside: str | None = None) -> Iterator[tuple[File, File | None]]:
    """The files that have such rows, each with a new one that has not; those rows go to a folder if any is named."""
    for file in rows.files:
        data = replace(rows, files=[file])
        if not data.read(where.meta.root_names(), where).num_rows:
            continue
        if aside:
            store.place.put(f"{aside}/{rows.table}-{file.name}", parquet(rows.table, [data.read(where=where)])[0])
        rest = data.batches(where=where.ne_missing(True), ahead=1)
        yield file, _written(store, rows.table, map(_table, rest))


def _written(store: Store, table: str, parts: Iterable[pa.Table]) -> File | None:
    """A new file; None where there are no rows for one."""
    new = store.write_table(table, parts)
    if not new.rows:
        store.discard(table, new)
    return new if new.rows else None


def _replace(store: Store, change: Callable[[], Change]) -> bool:
    """Make a change in one step, if it is one; False where another driver committed first."""
    try:
        replaced = change()
    except (OSError, pa.ArrowException) as error:
        before = store.snapshot.number
        store.catch_up()
        if store.snapshot.number != before:
            return False
        if getattr(error, "errno", None) is None:  # the system has not refused it: a file may not be what was written
            tables.verify(store.place, tables.damaged)
        raise
    if not any(replaced.values()) or store.swap({}, replaced):
        return True
    for table, files in replaced.items():
        for new in files.values():
            if new is not None:
                store.discard(table, new)
    return False


def _table(batch: pa.RecordBatch) -> pa.Table:
    return pa.Table.from_batches([batch])


def _column(rows: Rows, where: pl.Expr | None = None) -> set[str]:
    return set(rows.read(["job"], where)["job"].to_pylist())


def _jobs(place: Place) -> set[str]:
    return set().union(*(queries.column(place, table, "job") for table in schema.TABLES))


def _skipped(place: Place) -> set[str]:
    return set(queries.column(place, "jobs", "job", SKIPPED))
