"""The outcomes of a sweep: the losses of each solver at each depth on each test, by seed, whether they are there, were
lost, or are still to come.

A store may have ten million rows: columns that are not needed are not read, texts are read as numbers, and rows are
gathered by group as they come.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from jaxtyping import Float, Int

from lfombench.harness.store.manifest import Asked, Manifest

from .published import undrawn
from .results import Tables

EXACT = -25.0  # log errors below this are only rounding
LOOSE = 0.05  # a bound's fit is loose where its error is above this part of its mean error
KEY = ("task", "test", "protocol", "solver", "family", "step", "depth")
NUMBERS = ("seed", "params", "mse", "log_mse", "mse_normalised", "q99", "fit_error")
CODED = ("job", "task", "test", "protocol", "solver", "family", "status", "code")
ROWS = 1 << 20  # rows that are gathered at once


@dataclass(frozen=True)
class Losses:
    """The outcomes of a solver at one depth on one test under one protocol.

    seeds ascend; values are log errors, inf where a seed was lost (training diverged, the error is not finite, the job
    failed), nan where it is still to come. A model trained for depth 4 is not a model of depth 2, nor is a control made
    of such models; conjugate gradients stopped after 2 steps are a method of depth 2.
    """

    task: str
    test: str
    protocol: str
    solver: str
    family: str
    depth: int
    seeds: Int[np.ndarray, " seeds"]
    values: Float[np.ndarray, " seeds"]
    params: int | None = None
    heavy: int = 0  # seeds whose mean error is above the 99 % quantile
    loose: bool = False  # whether it is a bound with a loose fit
    diverged: int = 0  # seeds whose training or test diverged
    stray: int = 0  # seeds with a loss that is not finite, as lfombench writes none
    zero: float | None = None  # the log error of predicting 0; None where the store does not say

    @property
    def undrawn(self) -> str:
        """The protocol without its data seed."""
        return undrawn(self.protocol)


@dataclass(frozen=True)
class Outcomes:
    """All losses of a sweep, sorted by task, test, protocol, solver and depth; the codes that computed them; the number
    of jobs that have results on every task that they are tested on.
    """

    losses: list[Losses]
    codes: list[str]
    done: int

    def boards(self) -> dict[tuple[str, str, str], list[Losses]]:
        """By task, test and protocol without its data seed, where anything has an outcome."""
        found: dict[tuple[str, str, str], list[Losses]] = {}
        for one in self.losses:
            found.setdefault((one.task, one.test, one.undrawn), []).append(one)
        return {key: losses for key, losses in found.items() if any(not np.isnan(o.values).all() for o in losses)}


def outcomes(tables: Tables, sweep: Manifest) -> Outcomes:
    """The outcomes of a sweep, read once. Experts' transfers along the axis of a sweep are not among them."""
    if sweep.name not in tables.memo:
        tables.memo[sweep.name] = _outcomes(tables, sweep)
    found: Outcomes = tables.memo[sweep.name]
    return found


def with_transfers(tables: Tables, sweep: Manifest) -> list[Losses]:
    """All losses that a store has of a sweep, on whatever they were tested."""
    cells: dict[Key, list[_Group]] = {}
    for group in _gathered(tables, sweep.jobs)[0]:
        cells.setdefault(group.cell, []).append(group)
    return [_merged(cells[key]) for key in sorted(cells)]


def _outcomes(tables: Tables, sweep: Manifest) -> Outcomes:
    groups, codes = _gathered(tables, sweep.jobs)
    tests = set(sweep.tests)
    cells: dict[Key, list[_Group]] = {}
    for group in groups:
        if not sweep.axis or group.task == group.test or group.test in tests:
            cells.setdefault(group.cell, []).append(group)
    made = {key: _merged(parts) for key, parts in cells.items()}
    done = _done(sweep, made) if sweep.asked else sum(g.depth == g.step and g.task == g.test for g in groups)
    failed = _failed(tables, sweep)
    whole = {group.solver for group in groups if group.family == "control" and group.step < group.depth}
    for case in sweep.asked:
        lost = failed.get((case.task, case.solver, case.protocol, case.depth), set())
        for key in _cells(case, tests if sweep.axis else None, case.solver in whole):
            known = made.get(key) or Losses(*key[:4], case.family, key[4], _NONE, _NONE.astype(float))
            seeds = np.setdiff1d(np.array(case.seeds, dtype=np.int64), known.seeds)
            values = np.array([np.inf if seed in lost else np.nan for seed in seeds.tolist()])
            made[key] = _with(known, seeds, values)
    return Outcomes([made[key] for key in sorted(made)], codes, done)


Key = tuple[str, str, str, str, int]  # task, test, protocol, solver, depth
_NONE = np.array([], dtype=np.int64)


@dataclass(frozen=True)
class _Group:
    """The rows of a solver of one depth at one step."""

    task: str
    test: str
    protocol: str
    solver: str
    family: str
    step: int
    depth: int
    seeds: np.ndarray
    values: np.ndarray
    params: int | None
    heavy: int
    loose: bool
    diverged: int
    stray: int
    zero: float | None

    @property
    def cell(self) -> Key:
        """The cell that the rows belong to."""
        return self.task, self.test, self.protocol, self.solver, self.step


def _gathered(tables: Tables, jobs: list[str]) -> tuple[list[_Group], list[str]]:
    """The rows of these jobs that stand for a solver of depth `step`, by group; and the codes behind them."""
    ids = pa.array(jobs, pa.string())

    def gather(data: ds.Dataset) -> tuple[list[_Group], list[str]]:
        groups, codes, held, count = list[_Group](), set[str](), list[pa.RecordBatch](), 0
        for batch in data.to_batches(columns=[*CODED, "step", "depth", *NUMBERS]):
            held.append(batch)
            count += len(batch)
            if count >= ROWS:
                groups += _groups(held, ids, codes)
                held, count = [], 0
        groups += _groups(held, ids, codes)
        return groups, sorted(codes)

    return tables.read("results", gather, CODED)


def _groups(batches: list[pa.RecordBatch], ids: pa.Array, codes: set[str]) -> Iterator[_Group]:
    if not any(map(len, batches)):
        return
    names = [batch.column("job").dictionary for batch in batches]  # looked up together: the sweep's may be many
    ours, kept, begin = pc.is_in(pa.concat_arrays(names), value_set=ids), [], 0
    for batch, dictionary in zip(batches, names, strict=True):
        here = ours.slice(begin, len(dictionary))
        begin += len(dictionary)
        kept.append(batch if pc.all(here).as_py() else batch.filter(here.take(batch.column("job").indices)))
    frame = pl.DataFrame(pa.Table.from_batches(kept).drop_columns(["job"]))
    codes.update(frame["code"].drop_nulls().unique().cast(pl.String))
    trained = (pl.col("family") == "learned") | ((pl.col("family") == "control") & (pl.col("params") > 0))
    finite, gap = pl.col("log_mse").is_finite().fill_null(False), pl.col("log_mse") - pl.col("mse_normalised").log()
    rows = frame.lazy().filter((pl.col("step") > 0) & (~trained | (pl.col("step") == pl.col("depth"))))
    found = rows.group_by(KEY).agg(
        "seed",
        pl.when(finite).then("log_mse").otherwise(float("inf")).alias("values"),
        pl.col("params").max(),
        (pl.col("mse") > pl.col("q99")).sum().alias("heavy"),
        ((pl.col("family") == "bound") & (pl.col("fit_error") > LOOSE * pl.col("mse"))).any().alias("loose"),
        (pl.col("status") == "diverged").sum().alias("diverged"),
        (pl.col("log_mse").is_not_null() & ~finite).sum().alias("stray"),
        gap.filter(gap.is_finite()).max().alias("zero"),
    )
    groups = found.collect().with_columns(pl.col(KEY[:5]).cast(pl.String))
    lengths = groups["seed"].list.len().to_numpy().astype(np.int64)
    ends = lengths.cumsum()
    seeds, values = (groups[name].list.explode().to_numpy() for name in ("seed", "values"))
    rest = groups.drop("seed", "values").iter_rows(named=True)
    for row, begin, end in zip(rest, ends - lengths, ends, strict=True):
        yield _Group(**row, seeds=seeds[begin:end], values=values[begin:end])


def _merged(parts: list[_Group]) -> Losses:
    """A cell's groups as one: of a seed that stands for the cell more than once the job of the largest depth counts."""
    parts = sorted(parts, key=lambda part: part.depth)
    seeds, values = (np.concatenate([getattr(part, name) for part in parts]) for name in ("seeds", "values"))
    order = np.argsort(seeds, kind="stable")
    last = np.append(seeds[order][1:] != seeds[order][:-1], True)
    first = parts[-1]
    total = sum if last.all() else max
    counts = {name: total(getattr(part, name) for part in parts) for name in ("heavy", "diverged", "stray")}
    zeros = [part.zero for part in parts if part.zero is not None]
    return Losses(
        first.task,
        first.test,
        first.protocol,
        first.solver,
        first.family,
        first.step,
        seeds[order][last],
        values[order][last],
        first.params,
        loose=any(part.loose for part in parts),
        zero=max(zeros, default=None),
        **counts,
    )


def _with(losses: Losses, seeds: np.ndarray, values: np.ndarray) -> Losses:
    """Losses with further seeds."""
    if not len(seeds):
        return losses
    every, each = np.concatenate([losses.seeds, seeds]), np.concatenate([losses.values, values])
    order = np.argsort(every, kind="stable")
    return replace(losses, seeds=every[order], values=each[order])


def _cells(case: Asked, tests: set[str] | None, whole: bool) -> Iterator[Key]:
    """The cells of a case: each iterate of a method that is not trained is a method. tests: only on these and its own
    task. whole: whether this is so for a control.
    """
    each = case.family in ("classical", "bound") or (case.family == "control" and whole)
    for test in dict.fromkeys((case.task, *case.tests)):
        if tests is None or test == case.task or test in tests:
            for depth in range(1, case.depth + 1) if each else [case.depth]:
                yield case.task, test, case.protocol, case.solver, depth


def _failed(tables: Tables, sweep: Manifest) -> Mapping[tuple[str, str, str, int], set[int]]:
    """The seeds of each case whose jobs failed when they were last tried."""
    failed = tables.jobs.filter(pl.col("job").is_in(sweep.jobs) & (pl.col("status") == "failed"))
    seeds: dict[tuple[str, str, str, int], set[int]] = {}
    for *case, seed in failed.select("task", "solver", "protocol", "depth", "seed").collect().iter_rows():
        seeds.setdefault((case[0], case[1], case[2], case[3]), set()).add(seed)
    return seeds


def _done(sweep: Manifest, made: Mapping[Key, Losses]) -> int:
    """The number of jobs with results on every task they are tested on."""
    cases: dict[tuple[str, str, str, int], tuple[set[str], set[int]]] = {}
    for case in sweep.asked:
        tests, seeds = cases.setdefault((case.task, case.solver, case.protocol, case.depth), ({case.task}, set()))
        tests.update(test for test in case.tests if not sweep.axis or test in sweep.tests)
        seeds.update(case.seeds)
    done = 0
    for (task, solver, protocol, depth), (tests, seeds) in cases.items():
        for test in tests:
            found = made.get((task, test, protocol, solver, depth))
            seeds = seeds & set(found.seeds.tolist()) if found else set()
        done += len(seeds)
    return done
