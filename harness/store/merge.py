"""Two stores as one: what one lacks of the other, and where they contradict each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa

from . import queries, schema, side_files
from .deviation import TOLERANCE, deviation
from .manifest import joined, manifests, path_of
from .store import Store

KEY = ["job", "test", "step"]
SHOWN = ["solver", "depth", "seed", "protocol", "task", "status", "mse", "log_mse", "code"]


@dataclass(frozen=True)
class Contradiction:
    """Two rows of one (job, test, step) that cannot both be right, and the stores they are in."""

    ours: dict[str, Any]
    theirs: dict[str, Any]
    stores: tuple[str, str]


def contradictions(into: Store, other: Store) -> list[Contradiction]:
    """Rows of both stores whose code differs, or whose losses do by more than rounding on another machine explains."""
    names = [*KEY, *SHOWN, "mse_normalised"]
    ours, theirs = (pl.DataFrame(pl.from_arrow(queries.table(s.place, "results", names))) for s in (into, other))
    found = []
    for row in ours.join(theirs, on=KEY, suffix=" of the other").to_dicts():
        one = {name: row[name] for name in names}
        two = {name: row.get(f"{name} of the other", row[name]) for name in names}
        if one["code"] != two["code"] or deviation(one, two) > TOLERANCE:
            found.append(Contradiction(one, two, (into.out, other.out)))
    return found


def add(into: Store, other: Store) -> int:
    """Add what `into` lacks; the number of jobs that are new there."""
    known = {(job, test) for job, record in queries.done(into.place).items() for test, _ in record}
    jobs = {job for job, _ in known}
    new = [job for job in queries.done(other.place) if job not in jobs]
    tables = {}
    for name in schema.TABLES:
        rows = queries.table(other.place, name)
        if name == "results":
            pairs = zip(rows["job"].to_pylist(), rows["test"].to_pylist(), strict=True)
            tables[name] = rows.filter(pa.array([pair not in known for pair in pairs], pa.bool_()))
        else:
            tables[name] = rows.filter(pa.array([job not in jobs for job in rows["job"].to_pylist()], pa.bool_()))
    codes = [name.removesuffix(".json") for name in other.place.names("code")]
    side_files.keep_code(into.place, {code: side_files.code_parts(other.place, code) for code in codes})
    if any(rows.num_rows for rows in tables.values()):
        into.add(tables)
    for theirs in manifests(other.place):
        ours = next(iter(manifests(into.place, theirs.name)), None)
        into.write(path_of(theirs.name), joined(ours, theirs).content)
    return len(new)
