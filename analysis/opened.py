"""A store opened from Python: its tables as Polars frames, boards, comparisons, SQL.

import lfombench

store = lfombench.open("out")
store.results.filter(pl.col("solver.preconditioner") == "full").group_by("solver.memory").agg(pl.col("log_mse").mean())
store.board("fig1")
print(store.compare("memformer(memory=cgd, preconditioner=full)", "linear_transformer(preconditioner=full)"))
store.sql("SELECT solver, depth, mean, verdict FROM board WHERE protocol = 'rigorous'")
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from os import PathLike
from typing import Any

import polars as pl

from lfombench.harness.errors import UserError, nearest
from lfombench.harness.store.manifest import Manifest
from lfombench.harness.store.schema import TABLES

from .assemble import boards
from .board import Boards
from .compare import Comparison
from .costs import COSTS
from .formats import COLUMNS, records
from .meetings import Solvers, compared, gathered
from .results import NoStore, Tables, leaves, sweeps, table

CASE = ["task", "solver", "protocol"]


class Results:
    """A store. Frames are read when they are collected, and hold what is committed by then.

    results: a row per (job, test task, iterate). jobs: a row per job. curves: a row per job and point of its training
    curve. weights: a row per job and parameter. Beside the columns of the store, which `meaning` explains, `results`
    and `jobs` have the fields of task, solver and protocol (`task.d`, `solver.preconditioner`, `protocol.steps`; null
    where a class has no such field; lists as JSON), and `sweeps`, the names of the sweeps that want the job.
    """

    def __init__(self, out: str | PathLike[str]) -> None:
        self.out = str(out)
        self.known()

    def __repr__(self) -> str:
        return f"lfombench.open({self.out!r})"

    @property
    def results(self) -> pl.LazyFrame:
        """A row per (job, test task, iterate)."""
        return self._with_fields("results")

    @property
    def jobs(self) -> pl.LazyFrame:
        """A row per job."""
        return self._with_fields("jobs")

    @property
    def curves(self) -> pl.LazyFrame:
        """A row per job and point of its training curve."""
        return table(self.out, "curves")

    @property
    def weights(self) -> pl.LazyFrame:
        """A row per job and parameter."""
        return table(self.out, "weights")

    @property
    def sweeps(self) -> pl.LazyFrame:
        """A row per sweep and job that it wants."""
        rows = [(manifest.name, job) for manifest in self.known() for job in manifest.jobs]
        return pl.LazyFrame(rows, schema={"sweep": pl.String, "job": pl.String}, orient="row")

    @property
    def cases(self) -> pl.LazyFrame:
        """A row per combination of task, solver and protocol, with the fields of each."""
        specs = table(self.out, "jobs").select(*CASE, "spec").drop_nulls("spec").unique(CASE).sort(CASE).collect()
        rows = [dict(zip(CASE, row[:3], strict=True)) | fields(json.loads(row[3])) for row in specs.iter_rows()]
        names = [*CASE, *sorted({name for row in rows for name in row} - set(CASE))]
        return pl.DataFrame({name: _column([row.get(name) for row in rows]) for name in names}).lazy()

    def meaning(self, column: str) -> str:
        """What a column of the store means, with its unit."""
        meanings = {column.name: column.meaning for columns in TABLES.values() for column in columns}
        if column not in meanings:
            raise UserError(f"no column {column!r}; {nearest(column, meanings)}")
        return meanings[column]

    def known(self, sweep: str | None = None) -> list[Manifest]:
        """What the store remembers of its sweeps, or of one."""
        try:
            found = sweeps(self.out, sweep or "*")
        except NoStore as error:
            raise UserError(str(error)) from error
        if sweep and not found:
            names = [manifest.name for manifest in sweeps(self.out)]
            raise UserError(f"no sweep {sweep!r} in {self.out}; {nearest(sweep, names)}")
        return found

    def boards(self, sweep: str | None = None, at_most: Mapping[str, float] | None = None) -> list[Boards]:
        """The boards of one sweep, or of all, as objects. at_most: limits by cost, of params, steps, flops (operations
        for a prompt), prompts and labels (met in training): then methods are ranked at the deepest these allow.
        """
        for name, most in (at_most or {}).items():
            if name not in COSTS:
                raise UserError(f"at_most: no cost {name!r}; {nearest(name, COSTS)}")
            if not isinstance(most, int | float) or not most >= 0:
                raise UserError(f"at_most: got {most!r} for {name}, needs a number of 0 or more")
        tables = Tables(self.out)
        return [boards(tables, manifest, at_most) for manifest in leaves(self.out, self.known(sweep))]

    def board(self, sweep: str | None = None, at_most: Mapping[str, float] | None = None) -> pl.DataFrame:
        """A row per solver and depth of each board of one sweep, or of all: means, intervals, ranks, verdicts. at_most:
        as in `boards`; then a row per solver.
        """
        rows = [record for made in self.boards(sweep, at_most) for record in records(made)]
        return pl.DataFrame(rows, schema=BOARD, infer_schema_length=None)

    def compare(self, first: str, second: str, sweep: str | None = None, test: str | None = None) -> Comparison:
        """Two solvers by label or name wherever both were run; printed, it says who is better, by how much."""
        tables, manifests = Tables(self.out), leaves(self.out, self.known(sweep))
        losses = gathered(tables, manifests, test)
        solvers = Solvers.of(losses, manifests)
        return compared(tables, losses, solvers, solvers.find(first), solvers.find(second))

    def sql(self, query: str, *, files: bool = False) -> pl.DataFrame:
        """The answer to a query in SQL. Tables: results, jobs, curves, weights; board, cases and sweeps. files: it may
        read other files too, by `read_csv('FILE')`, `read_parquet` and their like.
        """
        return answer(query, self, files)

    def _with_fields(self, name: str) -> pl.LazyFrame:
        wanted = self.sweeps.group_by("job").agg(pl.col("sweep").sort().alias("sweeps"))
        frame = table(self.out, name).join(self.cases, on=CASE, how="left", maintain_order="left")
        return frame.join(wanted, on="job", how="left", maintain_order="left")


WRITES = re.compile(r"(\s|--.*\n)*(insert|update|delete|drop|create|alter|truncate|merge|copy|set)\b", re.IGNORECASE)
READS_FILES = re.compile(r"\bread_(csv|parquet|ipc|json|ndjson)\b", re.IGNORECASE)  # in a text too: SQL has many quotes
VIEWS = ("board", "cases", "sweeps")


def answer(query: str, store: Results, files: bool = False) -> pl.DataFrame:
    """The answer to a query. UserError, with the place and the nearest right word, where it has none, and where it
    reads other files than the store's, unless it may.
    """
    if WRITES.match(query):
        raise UserError(f"query only reads: got {query[:40]!r}, allowed: SELECT, WITH, SHOW, EXPLAIN")
    if (reads := READS_FILES.search(query)) and not files:
        raise UserError(f"query reads the store alone: {reads[0]} reads other files, which --files (files=True) allows")
    frames: dict[str, pl.LazyFrame] = {name: table(store.out, name) for name in TABLES}
    words = query.lower()
    for name in VIEWS:  # made only where they may be meant: each reads the store
        if name in words:
            found = getattr(store, name)
            frames[name] = found().lazy() if callable(found) else found
    try:
        return pl.SQLContext(frames).execute(query, eager=True)
    except pl.exceptions.PolarsError as error:
        raise UserError(_explained(str(error), query, frames)) from error


def _explained(message: str, query: str, frames: Mapping[str, pl.LazyFrame]) -> str:
    head = message.partition("\n\nResolved plan")[0].partition("; valid columns")[0].strip()
    columns = {name: frame.collect_schema().names() for name, frame in frames.items()}
    unknown = next((part for part in head.split('"')[1::2] or head.split("'")[1::2]), None)
    hint = ""
    if unknown and "column" in head.lower():
        meant = [name for name in columns if re.search(rf"\b{name}\b", query, re.IGNORECASE)] or [*columns]
        others = [name for name, each in ({"board": [*BOARD]} | columns).items() if unknown in each]
        hint = f", which {' and '.join(others)} {'has' if len(others) == 1 else 'have'}" if others else ""
        hint = hint or _near(unknown, {column for name in meant for column in columns[name]})
    elif unknown and ("relation" in head.lower() or "table" in head.lower()):
        hint = _near(unknown, {*columns, *VIEWS})
    tables = "; ".join(f"{name}({', '.join(each)})" for name, each in columns.items())
    return f"this SQL cannot be answered: {head}{hint}\nTables: {tables}; views: {', '.join(VIEWS)}"


def _near(unknown: str, names: Iterable[str]) -> str:
    close = nearest(unknown, names).partition("; did you mean ")[2]
    return f"; did you mean {close}" if close else ""


def fields(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of task, solver and protocol of a job's specification, by name: `task.d`, `solver.preconditioner`."""
    found: dict[str, Any] = {}
    for kind in CASE:
        part = spec[kind] if kind == "protocol" else next(iter(spec[kind].values()))
        for name, value in part.items():
            found[f"{kind}.{name}"] = json.dumps(value) if isinstance(value, list | dict) else value
    return found


def _column(values: Iterable[Any]) -> pl.Series:
    """Values as a column: of numbers, of truths, or, where kinds are mixed, of text."""
    values = list(values)
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float} or len(kinds) <= 1:
        return pl.Series(values, strict=False, dtype=pl.Float64 if kinds == {int, float} else None)
    return pl.Series([None if value is None else str(value) for value in values], dtype=pl.String)


_TYPES: dict[str, Any] = dict.fromkeys(COLUMNS, pl.Float64)
_TYPES |= dict.fromkeys(("depth", "params", "seeds", "asked", "lost", "pending", "redraws"), pl.Int64)
_TYPES |= dict.fromkeys(("rank_best", "rank_worst", "ranked"), pl.Int64)
_TYPES |= dict.fromkeys(("tail", "outlier", "exact", "loose"), pl.Boolean)
_TYPES |= dict.fromkeys(("sweep", "task", "test", "protocol", "solver", "title", "family", "told"), pl.String)
_TYPES |= dict.fromkeys(("suspect", "ties", "before", "verdict", "bound"), pl.String)
BOARD: dict[str, Any] = {name: _TYPES[name] for name in COLUMNS}
