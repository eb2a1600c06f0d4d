"""Reading a store: its tables as Polars frames, and the manifests of its sweeps."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from polars.io.plugins import register_io_source
from pyarrow import fs

from lfombench.harness.store import tables
from lfombench.harness.store.filesystem import place
from lfombench.harness.store.manifest import Damaged, Manifest, manifests
from lfombench.harness.store.schema import arrow
from lfombench.harness.store.side_files import code_parts
from lfombench.harness.store.tables import CODED
from lfombench.harness.store.version import is_store

T = TypeVar("T")
SLICE = 1 << 17  # rows that are handed on at once


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
        def gather(data: ds.Dataset) -> pl.DataFrame:
            batches = map(_decoded, data.to_batches(columns=columns))
            kept = [batch if predicate is None else batch.filter(predicate) for batch in batches]
            return pl.concat(kept or [pl.DataFrame(schema=schema).select(columns or pl.all())], rechunk=False)

        # as a whole, before any of it goes on: it may have to begin again, where files are merged
        found = tables.read(root, name, gather, check=True, coded=words)
        yield from (found if count is None else found.head(count)).iter_slices(SLICE)

    schema = pl.DataFrame(arrow(name).empty_table()).schema
    words = [column for column, kind in schema.items() if kind == pl.String]
    frame = register_io_source(rows, schema=schema, is_pure=True)  # pure: a query has one answer from each table
    return _last(frame) if name == "jobs" else frame


def _decoded(batch: pa.RecordBatch) -> pl.DataFrame:
    """Rows whose texts are read as dictionaries, as text: faster than to read each text."""
    named = zip(batch.schema.names, batch.columns, strict=True)
    return pl.DataFrame({name: _text(column) if column.type == CODED else pl.Series(column) for name, column in named})


def _text(column: pa.DictionaryArray) -> pl.Series:
    return pl.Series(column.dictionary, dtype=pl.String).gather(pl.Series(column.indices))


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
        self.checked: set[str] = set()  # tables whose files were found to be what was written

    @functools.cached_property
    def results(self) -> pl.LazyFrame:
        """A row per job, test task and iterate, without the means of blocks of prompts, which are most of the bytes."""
        return self._read("results", [name for name in arrow("results").names if name != "blocks"])

    def blocks(self, where: pc.Expression) -> pl.DataFrame:
        """Means of blocks of test prompts of the rows that stand for a solver of depth `step`, where a condition holds,
        with what tells the rows apart.
        """
        return self._at_their_depth(where & pc.field("blocks").is_valid(), "prompts", "mse", "fit_error", "blocks")

    def medians(self, task: str, test: str, protocols: list[str], solvers: list[str]) -> pl.DataFrame:
        """The median errors of these solvers, sorted."""
        where = (pc.field("task") == task) & (pc.field("test") == test) & pc.field("protocol").isin(protocols)
        return self._at_their_depth(where & pc.field("solver").isin(solvers), "median")

    def _at_their_depth(self, where: pc.Expression, *columns: str) -> pl.DataFrame:
        """Rows where a condition holds, each solver, depth and seed once: a trained model's last iterate, any of
        the others, that of the deepest job; sorted, with what tells them apart.
        """
        key = ["task", "test", "protocol", "solver", "step", "seed"]
        names = ["job", "depth", "family", "params", *key, *columns]
        rows = pl.DataFrame(self.read("results", lambda data: data.to_table(columns=names, filter=where)))
        trained = (pl.col("family") == "learned") | ((pl.col("family") == "control") & (pl.col("params") > 0))
        kept = rows.filter(~trained | (pl.col("step") == pl.col("depth"))).sort(*key, "depth", "job")
        return kept.unique(key, keep="last", maintain_order=True)

    @functools.cached_property
    def zeros(self) -> dict[tuple[str, str], float]:
        """The log error of predicting 0, by task and test: the largest of any seed; where the store says it."""
        columns, known = ["task", "test", "log_mse", "mse_normalised"], pc.field("mse_normalised").is_valid()
        rows = pl.DataFrame(
            self.read("results", lambda data: data.to_table(columns=columns, filter=known), ("task", "test"))
        )
        level = pl.col("log_mse") - pl.col("mse_normalised").log()
        found = rows.group_by("task", "test").agg(level.filter(level.is_finite()).max().alias("level")).drop_nulls()
        return {(str(task), str(test)): value for task, test, value in found.iter_rows()}

    def failed(self) -> pl.DataFrame:
        """The jobs that failed when they were last tried."""
        columns = ["job", "status", "task", "solver", "protocol", "depth", "seed"]

        def rows(where: pc.Expression) -> pl.DataFrame:
            return pl.DataFrame(self.read("jobs", lambda data: data.to_table(columns=columns, filter=where)))

        ever = rows(pc.field("status") == "failed")["job"].unique().to_list()
        last = rows(pc.field("job").isin(pa.array(ever, pa.string()))) if len(ever) else rows(pc.scalar(False))
        return last.unique("job", keep="last", maintain_order=True).filter(status="failed")

    @functools.cached_property
    def floors(self) -> dict[str, dict[tuple[str, str], list[str]]]:
        """By task: the labels of the bounds of each solver, by protocol and solver."""
        columns = ["task", "protocol", "solver", "floors"]
        rows = pl.DataFrame(self.read("jobs", lambda data: data.to_table(columns=columns)))
        found: dict[str, dict[tuple[str, str], list[str]]] = {}
        for task, protocol, solver, floors in rows.drop_nulls("floors").unique().sort(pl.all()).iter_rows():
            known = found.setdefault(task, {}).setdefault((protocol, solver), [])
            known += [floor for floor in floors if floor not in known]
        return found

    @functools.cached_property
    def spent(self) -> dict[tuple[str, str, str], dict[int, Spent]]:
        """What jobs took, by task, protocol and solver, and by depth."""
        case, costs = ["task", "protocol", "solver", "depth"], ["flops", "budget", "labels"]
        rows = pl.DataFrame(self.read("jobs", lambda data: data.to_table(columns=[*case, *costs]), case[:3]))
        means = rows.group_by(case).agg(pl.col("flops").drop_nulls().first(), pl.col("budget", "labels").mean())
        found: dict[tuple[str, str, str], dict[int, Spent]] = {}
        for task, protocol, solver, depth, *values in means.iter_rows():
            found.setdefault((str(task), str(protocol), str(solver)), {})[depth] = Spent(*values)
        return found

    @functools.cached_property
    def jobs(self) -> pl.LazyFrame:
        """A row per job."""
        return _last(self._read("jobs")).collect().lazy()

    @functools.cached_property
    def curves(self) -> pl.LazyFrame:
        """A row per job and point of its training curve."""
        return self._read("curves")

    @functools.cached_property
    def weights(self) -> pl.LazyFrame:
        """A row per job and parameter."""
        return self._read("weights")

    def read(self, name: str, use: Callable[[ds.Dataset], T], coded: Sequence[str] = ()) -> T:
        """What `use` returns for a table's files, which are checked the first time. coded: text columns that are read
        as dictionaries.
        """
        found = tables.read(place(self.out), name, use, check=name not in self.checked, coded=coded)
        self.checked.add(name)
        return found

    def _read(self, name: str, columns: list[str] | None = None) -> pl.LazyFrame:
        return pl.LazyFrame(pl.DataFrame(self.read(name, lambda data: data.to_table(columns=columns))))


def sweeps(out: str, name: str = "*") -> list[Manifest]:
    """The manifests of the sweeps in a store whose names match a pattern."""
    root = place(out)
    if root.kind() == fs.FileType.File:
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
