"""Two stores as one: what one lacks, and where they contradict each other."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa
from rich.table import Table

from ..driver.audit import TOLERANCE, deviation
from . import schema
from .store import Store

SHOWN = 5
KEY = ["job", "test", "step"]


@dataclass(frozen=True)
class Difference:
    """Two rows of one (job, test, step) that cannot both be right."""

    ours: dict[str, Any]
    theirs: dict[str, Any]
    stores: tuple[str, str]

    def table(self) -> Table:
        """Both rows, side by side."""
        made = Table("", *self.stores, title=f"job {self.ours['job']}", title_justify="left")
        for name in ("solver", "depth", "seed", "protocol", "task", "test", "step", "status", "mse", "log_mse", "code"):
            made.add_row(name, str(self.ours[name]), str(self.theirs[name]))
        return made


def contradictions(into: Store, other: Store) -> list[Difference]:
    """Rows of both stores whose code differs, or whose losses do by more than rounding on another machine explains."""
    names = [*KEY, "solver", "depth", "seed", "protocol", "task", "status", "mse", "mse_normalised", "log_mse", "code"]
    mine, theirs = (_frame(store, names) for store in (into, other))
    both = mine.join(theirs, on=KEY, suffix=" of the other").to_dicts()
    found = []
    for row in both:
        ours = {name: row[name] for name in names}
        its = {name: row.get(f"{name} of the other", row[name]) for name in names}
        if ours["code"] != its["code"] or deviation(ours, its) > TOLERANCE:
            found.append(Difference(ours, its, (into.out, other.out)))
    return found


def add(into: Store, other: Store) -> int:
    """Add what `into` lacks; how many jobs that are new there."""
    known = {(job, test) for job, record in into.done().items() for test, _ in record}
    jobs = {job for job, _ in known}
    new = [job for job in other.done() if job not in jobs]
    tables = {}
    for name in schema.TABLES:
        rows = other.all(name)
        if name == "results":
            pairs = zip(rows["job"].to_pylist(), rows["test"].to_pylist(), strict=True)
            tables[name] = rows.filter(pa.array([pair not in known for pair in pairs], pa.bool_()))
        else:
            tables[name] = rows.filter(pa.array([job not in jobs for job in rows["job"].to_pylist()], pa.bool_()))
    codes = [name.removesuffix(".json") for name in other.place.names("code")]
    into.know({code: other.modules(code) for code in codes})
    if any(rows.num_rows for rows in tables.values()):
        into.add(tables)
    for name in other.place.names("sweeps"):
        ours, theirs = (json.loads(store.place.read(f"sweeps/{name}") or b"{}") for store in (into, other))
        both = {key: list(dict.fromkeys([*ours.get(key, ()), *theirs[key]])) for key in ("jobs", "tests")}
        into.write(f"sweeps/{name}", json.dumps(theirs | ours | both, indent=1))
    return len(new)


def _frame(store: Store, names: list[str]) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(store.all("results", names)))
