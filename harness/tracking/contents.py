"""What a store has to show: a digest of each job, and the runs that show them.

A digest changes whenever anything that a run shows does: rows of the store are written once, so the job's row stands
for itself and its curve, and every loss counts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence

import numpy as np
import polars as pl

from ..store import tables
from ..store.place import Place
from .shown import FINAL, USED, VERSION, Row, Shown, shown

AT_ONCE = 4000  # jobs whose rows are read at a time
STATE = ("job", "status", "reason", "code", "pack", "host", "finished")
LOSSES = ("job", "test", "step", "seed", "mse", "log_mse", *FINAL[1:], "status", "code")
OF_JOBS = ("task", "solver", "depth", "protocol", "seed", "spec", "tuned", "pack_jobs", "pack_seconds")
JOBS = tuple(dict.fromkeys((*STATE, *OF_JOBS, *USED)))


def digests(place: Place, jobs: Collection[str] | None = None) -> dict[str, str]:
    """The digest of each job that has a row, by its id; of these jobs, or of all. Combinations that a sweep skips have
    none.
    """
    state, losses = (_rows(place, name, columns, jobs) for name, columns in (("jobs", STATE), ("results", LOSSES)))
    state = state.unique("job", keep="last", maintain_order=True).filter(pl.col("status") != "skipped")
    of_losses = _digests(losses)
    return {
        job: hashlib.blake2b(own + of_losses.get(job, b""), digest_size=10, key=b"%d" % VERSION).hexdigest()
        for job, own in _digests(state).items()
    }


class Contents:
    """All that a store has of some jobs."""

    def __init__(self, place: Place, jobs: Collection[str]) -> None:
        self.digests = digests(place, jobs)  # before the rows: what is committed in between is seen the next time
        rows = _rows(place, "jobs", JOBS, jobs).unique("job", keep="last")
        self.jobs = {row["job"]: row for row in rows.iter_rows(named=True)}
        self.losses = _by_job(_rows(place, "results", (*LOSSES, "family", "depth"), jobs))
        self.curves = _by_job(_rows(place, "curves", ("job", "step", "loss", "gradient_norm"), jobs))

    def runs(self, sweep: str, store: str, jobs: Iterable[str]) -> Iterator[Shown]:
        """The runs of those of these jobs that the store still has."""
        for job in jobs:
            if job in self.digests and job in self.jobs:
                losses, curve = self.losses.get(job, []), self.curves.get(job, [])
                yield shown(sweep, store, self.digests[job], self.jobs[job], losses, curve)


def _rows(place: Place, table: str, columns: Sequence[str], jobs: Collection[str] | None) -> pl.DataFrame:
    where = None if jobs is None else pl.col("job").is_in(pl.Series(list(jobs), dtype=pl.String).implode())
    return tables.read(place, table, lambda rows: rows.frame(columns, where))


def _by_job(rows: pl.DataFrame) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows.iter_rows(named=True):
        found.setdefault(row["job"], []).append(row)
    return found


def _digests(rows: pl.DataFrame) -> dict[str, bytes]:
    """A digest of each job's rows, whatever their order: of their values, as eight bytes each."""
    if rows.is_empty():
        return {}
    values = np.stack([_bytes(rows[name]) for name in rows.columns if name != "job"], axis=1)
    job = rows["job"].rank("dense").to_numpy().astype(np.int64)
    order = np.lexsort((*values.T[::-1], job))
    values, job = np.ascontiguousarray(values[order]), job[order]
    begins = np.flatnonzero(np.r_[True, job[1:] != job[:-1]])
    names = rows["job"].gather(order[begins]).to_list()
    ends = np.r_[begins[1:], len(job)]
    pairs = zip(names, begins.tolist(), ends.tolist(), strict=True)
    return {name: hashlib.blake2b(values[a:b].tobytes(), digest_size=16).digest() for name, a, b in pairs}


def _bytes(column: pl.Series) -> np.ndarray:
    """Values as eight bytes each: numbers as they are, texts by a digest; what is missing differs from all of them."""
    if column.dtype == pl.String:
        texts = column.unique(maintain_order=True)
        known = {word: int.from_bytes(hashlib.blake2b((word or "").encode(), digest_size=8).digest()) for word in texts}
        numbers = column.replace_strict(list(known), list(known.values()), return_dtype=pl.UInt64).to_numpy()
    elif column.dtype == pl.Float64:
        numbers = column.fill_null(0.0).to_numpy().view(np.uint64)
    else:
        numbers = column.cast(pl.Int64).fill_null(0).to_numpy().view(np.uint64)
    return np.where(column.is_null().to_numpy(), np.uint64(0x9E3779B97F4A7C15), numbers)
