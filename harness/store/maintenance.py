"""Files of a store made anew: merged, without jobs that must go, and after damage."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from ..scheduler.pending import Todo
from . import schema, snapshots
from .snapshots import File
from .store import Store, parquet

LARGE = 64 << 20  # bytes of a file that is never merged again
MANY = 8  # files that are worth merging while a sweep runs
AT_ONCE = 1 << 14  # rows


def compact(store: Store, many: int = MANY) -> bool:
    """Merge the newest files of a table where that makes `many` into one; False where none has so many to merge.

    Sizes grow at least twofold from the newest file to the oldest: a row is rewritten a logarithmic number of times.
    """
    for table in schema.TABLES:
        files = list(store.snapshot.files.get(table, ()))
        old = files[mergeable([file.bytes for file in files]) :]
        if len(old) >= many:
            return rewrite(store, table, old, lambda rows: rows)
    return False


def mergeable(sizes: Sequence[int]) -> int:
    """Where the run of newest files begins of which each is no larger than all that are newer together."""
    at, total = len(sizes), 0
    while at and sizes[at - 1] < LARGE and (not total or sizes[at - 1] <= total):
        at -= 1
        total += sizes[at]
    return at


def rewrite(store: Store, table: str, old: Sequence[File], keep: Callable[[pa.Table], pa.Table]) -> bool:
    """One file in place of several, with the rows that are kept; False where another driver was in between."""
    paths = [f"{table}/{file.name}" for file in old]
    try:
        parts = snapshots.dataset(store.place, table, paths).to_batches(
            batch_size=AT_ONCE, batch_readahead=1, fragment_readahead=1
        )
        add = store.written(table, (keep(pa.Table.from_batches([part])) for part in parts))
    except FileNotFoundError:
        store.catch_up()
        return False
    done = store.swap({table: [add] if add.rows else []}, {table: old})
    if not (done and add.rows):
        store.discard(table, add)
    return done


Chosen = Callable[[pa.Table], pa.Array]  # which rows


def remove(store: Store, table: str, chosen: Chosen, keys: Sequence[str], aside: str | None = None) -> None:
    """Take rows out of a table. keys: the columns that say which; aside: a folder that keeps what was taken out."""
    for file in list(store.snapshot.files.get(table, ())):
        data = snapshots.dataset(store.place, table, [f"{table}/{file.name}"])
        if not pc.any(chosen(data.to_table(columns=list(keys)))).as_py():
            continue
        if aside:
            held = data.to_table()
            store.place.put(f"{aside}/{table}-{file.name}", parquet(table, [held.filter(chosen(held))])[0])
        rewrite(store, table, [file], lambda rows: rows.filter(pc.invert(chosen(rows))))


def of_jobs(ids: set[str]) -> Chosen:
    """The rows of these jobs."""
    wanted = pa.array(sorted(ids), pa.string())
    return lambda rows: pc.is_in(rows["job"], wanted)


def unwanted(store: Store) -> set[str]:
    """Jobs that no sweep of the store wants, or skips."""
    wanted = {job for jobs in store.wanting().values() for job in jobs}
    skipped = set(store.column("jobs", "job", pc.field("status") == "skipped"))
    return set().union(*(store.column(table, "job") for table in schema.TABLES)) - wanted - skipped


def forget(store: Store, jobs: set[str]) -> None:
    """Remove jobs, and what was set aside."""
    for table in schema.TABLES:
        remove(store, table, of_jobs(jobs), ["job"])
    for name in store.place.names("stale"):
        store.place.delete(f"stale/{name}")


def set_aside(store: Store, stale: Iterable[Todo]) -> None:
    """Move what code gave that has changed since to stale/, where nothing reads it."""
    pairs = {(one.job.id, test) for one in stale for test in one.stale}
    again = {one.job.id for one in stale if one.stale and not one.trained}

    def results(rows: pa.Table) -> pa.Array:
        found = zip(rows["job"].to_pylist(), rows["test"].to_pylist(), strict=True)
        return pa.array([pair in pairs for pair in found], pa.bool_())

    if pairs:
        remove(store, "results", results, ["job", "test"], "stale")
    if again:
        for table in ("jobs", "curves", "weights"):
            remove(store, table, of_jobs(again), ["job"], "stale")


def repair(store: Store) -> list[str]:
    """Leave out files that are missing or not as they were written, and what belongs to the jobs in them; their names.

    Those jobs are not done any more.
    """
    lost = {}
    for table, files in store.snapshot.files.items():
        there = {info.base_name: info.size for info in store.place.infos(table)}
        lost[table] = [file for file in files if there.get(file.name) != file.bytes]
    if not any(lost.values()):
        return []
    store.swap({}, lost)
    jobs = {table: set(store.column(table, "job")) for table in schema.TABLES}
    trained = set(store.column("jobs", "job", pc.field("params") > 0))
    sound = jobs["results"] & jobs["jobs"] - (trained - jobs["weights"])
    broken = set().union(*jobs.values()) - sound - set(store.column("jobs", "job", pc.field("status") == "skipped"))
    for table in schema.TABLES:
        remove(store, table, of_jobs(broken), ["job"])
    return [f"{table}/{file.name}" for table, files in lost.items() for file in files]
