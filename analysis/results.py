"""Reading a store: its tables as Polars frames, and the manifests of its sweeps."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import polars as pl
import pyarrow as pa
from polars.io.plugins import register_io_source

from lfombench.harness.store import tables
from lfombench.harness.store.filesystem import place
from lfombench.harness.store.manifest import Damaged, Manifest, manifests
from lfombench.harness.store.rows import Rows
from lfombench.harness.store.schema import arrow
from lfombench.harness.store.side_files import code_parts
from lfombench.harness.store.version import is_store

T = TypeVar("T")
CASE = ("task", "protocol", "solver", "depth")  # of jobs that differ by their seed alone


class NoStore(Exception):
    """There is no store to read, or it is damaged."""


def table(out: str, name: str) -> pl.LazyFrame:
    """One of results, jobs, curves and weights, read from what is committed when it is collected. Columns that older
    files lack are null; of a job that was run twice the last row counts. UserError where a file is missing or damaged.
    """
    root = place(out)

    def rows(
        columns: list[str] | None, predicate: pl.Expr | None, count: int | None, _: int | None
    ) -> Iterator[pl.DataFrame]:
        names = schema.names() if columns is None else columns or ["job"]  # of none, as many rows as there are
        most = count if predicate is None else None
        files = tables.read(root, name, lambda rows: rows.excerpts(names, most))
        if not files:
            return iter([pl.DataFrame(schema=schema).select(names)])
        known = {column: schema[column] for column in names}
        found = pl.scan_parquet(files, schema=known, missing_columns="insert", extra_columns="ignore")
        found = found if predicate is None else found.filter(predicate)
        found = found if count is None else found.head(count)
        return found.collect_batches(maintain_order=True)

    schema = pl.DataFrame(pa.Table.from_batches([], arrow(name))).schema
    found = register_io_source(rows, schema=schema, is_pure=True)  # pure: a query has one answer from each table
    return _last(found) if name == "jobs" else found


def _last(jobs: pl.LazyFrame) -> pl.LazyFrame:
    return jobs.unique("job", keep="last", maintain_order=True)


class Spent(NamedTuple):
    """Operations for a prompt after 1 .. depth steps; prompts and labels that training met, means over seeds. None
    where the store does not say.
    """

    flops: list[int] | None
    prompts: float | None
    labels: float | None


class Tables:
    """The tables of a store, each read once, when it is first used."""

    def __init__(self, out: str) -> None:
        self.out = out
        self.memo: dict[str, Any] = {}  # what was made of them, by name

    def blocks(self, where: pl.Expr) -> pl.DataFrame:
        """Means of blocks of test prompts of the rows that stand for a solver of depth `step`, where a condition holds,
        with what tells the rows apart.
        """
        return self._at_their_depth(where, "prompts", "mse", "fit_error", "blocks").drop_nulls("blocks")

    def medians(self, task: str, test: str, protocols: list[str], solvers: list[str]) -> pl.DataFrame:
        """The median errors of these solvers, sorted."""
        where = (pl.col("task") == task) & (pl.col("test") == test) & pl.col("protocol").is_in(protocols)
        return self._at_their_depth(where & pl.col("solver").is_in(solvers), "median")

    def _at_their_depth(self, where: pl.Expr, *columns: str) -> pl.DataFrame:
        """Rows where a condition holds, each solver, depth and seed once: a trained model's last iterate, any of
        the others, that of the deepest job; sorted, with what tells them apart.
        """
        key = ["task", "test", "protocol", "solver", "step", "seed"]
        trained = (pl.col("family") == "learned") | ((pl.col("family") == "control") & (pl.col("params") > 0))
        stands = ~trained | (pl.col("step") == pl.col("depth"))
        names = ["job", "depth", "family", "params", *key, *columns]
        rows = self.frame("results", names, where & stands).sort(*key, "depth", "job")
        return rows.unique(key, keep="last", maintain_order=True)

    @functools.cached_property
    def zeros(self) -> dict[tuple[str, str], float]:
        """The log error of predicting 0, by task and test: the largest of any seed; where the store says it."""
        rows = self.frame("results", ["task", "test", "log_mse", "mse_normalised"])
        level = pl.col("log_mse") - pl.col("mse_normalised").log()
        found = rows.group_by("task", "test").agg(level.filter(level.is_finite()).max().alias("level")).drop_nulls()
        return {(task, test): value for task, test, value in found.iter_rows()}

    def failed(self) -> pl.DataFrame:
        """The jobs that failed when they were last tried."""
        columns = ["job", "status", "task", "solver", "protocol", "depth", "seed"]
        failed = pl.col("status") == "failed"
        ever = self.frame("jobs", ["job"], failed)["job"].unique()
        last = self.frame("jobs", columns, pl.col("job").is_in(ever.implode()) if len(ever) else failed)
        return last.unique("job", keep="last", maintain_order=True).filter(status="failed")

    @functools.cached_property
    def floors(self) -> dict[str, dict[tuple[str, str], list[str]]]:
        """By task: the labels of the bounds of each solver, by protocol and solver."""
        found: dict[str, dict[tuple[str, str], list[str]]] = {}
        for task, protocol, solver, floors in self._cases.select(*CASE[:3], "floors").iter_rows():
            known = found.setdefault(task, {}).setdefault((protocol, solver), [])
            known += [floor for floor in floors if floor not in known]
        return found

    @functools.cached_property
    def spent(self) -> dict[tuple[str, str, str], dict[int, Spent]]:
        """What jobs took, by task, protocol and solver, and by depth."""
        found: dict[tuple[str, str, str], dict[int, Spent]] = {}
        for task, protocol, solver, depth, *values in self._cases.select(*CASE, *Spent._fields).iter_rows():
            found.setdefault((task, protocol, solver), {})[depth] = Spent(*values)
        return found

    @functools.cached_property
    def _cases(self) -> pl.DataFrame:
        """What is the same of all seeds of a solver of one depth, and means of what is not."""
        rows = self.frame("jobs", [*CASE, "floors", "flops", "budget", "labels"])
        return (
            rows.group_by(CASE)
            .agg(
                pl.col("floors").explode().drop_nulls().unique(maintain_order=True),
                pl.col("flops").drop_nulls().first(),
                pl.col("budget").mean().alias("prompts"),
                pl.col("labels").mean(),
            )
            .sort(CASE)
        )

    @functools.cached_property
    def jobs(self) -> pl.LazyFrame:
        """A row per job."""
        return _last(self.frame("jobs").lazy()).collect().lazy()

    def frame(self, name: str, columns: Sequence[str] | None = None, where: pl.Expr | None = None) -> pl.DataFrame:
        """Columns of a table's rows where a condition holds; all by default."""
        return self.read(name, lambda rows: rows.frame(columns, where))

    def read(self, name: str, use: Callable[[Rows], T]) -> T:
        """What `use` returns for the rows of a table."""
        return tables.read(place(self.out), name, use)


def sweeps(out: str, name: str = "*") -> list[Manifest]:
    """The manifests of the sweeps in a store whose names match a pattern."""
    root = place(out)
    if root.kind() == "file":
        raise NoStore(f"--out {out} is a file; a store is a folder")
    if not is_store(root, out):
        raise NoStore(f"--out {out} holds no results yet; make some with `lfombench run SWEEP --out {out}`")
    try:
        return manifests(root, name)
    except Damaged as error:
        raise NoStore(str(error)) from error


def mixed(out: str, codes: Iterable[str | None]) -> list[str]:
    """Parts of the code of which several versions computed the results with these fingerprints."""
    root, versions, kinds = place(out), dict[str, set[str]](), set[bool]()
    for code in sorted({code for code in codes if code}):
        parts = code_parts(root, code)
        kinds |= {":" in part for part in parts}
        for part, digest in parts.items():
            versions.setdefault(part, set()).add(digest)
    older = ["files, as an older lfombench took fingerprints,"] if len(kinds) > 1 else []
    return [*older, *sorted(part for part, digests in versions.items() if len(digests) > 1)]


def leaves(out: str, roots: list[Manifest], within: tuple[str, ...] = ()) -> list[Manifest]:
    """These sweeps and their parts, each once, without those that have no jobs of their own. within: the sweeps whose
    parts they are.
    """
    by_name: dict[str, Manifest] = {}
    for sweep in roots:
        if sweep.jobs:
            by_name.setdefault(sweep.name, sweep)
        for name in (part for part in sweep.parts if part not in within):
            for part in leaves(out, sweeps(out, name), (*within, sweep.name)):
                by_name.setdefault(part.name, part)
    return list(by_name.values())


def audit(out: str, sweep: str) -> dict[str, Any] | None:
    """The result of the last audit of a sweep; None where there was none."""
    try:
        result = json.loads(place(out).read(f"audits/{sweep}.json") or b"null")
    except (OSError, ValueError, RecursionError):
        return None
    return result if isinstance(result, dict) else None
