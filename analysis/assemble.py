"""From the outcomes of a sweep to its boards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from lfombench.harness.store.manifest import Manifest

from .board import LOOSE, Board, Boards, Cell, Row
from .influence import Influence, influence, shared_variance
from .losses import EXACT, outcomes
from .matrix import losses_by_unit, unit_of, zero
from .pairs import paired
from .published import published, shared, undrawn
from .results import Tables, mixed
from .statistics import mean_interval, outliers, tenth
from .suspect import suspects
from .titles import title
from .verdicts import Ranking, ranking

KEY = ("task", "test", "undrawn")


def boards(tables: Tables, sweep: Manifest) -> Boards:
    """Every board of a sweep, from what the store holds of it."""
    frame = outcomes(tables, sweep)
    present = frame.filter(pl.col("job").is_not_null())
    order = {undrawn(name): i for i, name in reversed(list(enumerate(sweep.protocols)))}
    groups = {tuple(map(str, key)): rows for key, rows in frame.group_by(KEY, maintain_order=True)}
    groups = {key: rows for key, rows in groups.items() if rows["loss"].is_not_null().any()}
    ordered = sorted(groups, key=lambda key: (key[0], key[1] != key[0], key[1], order.get(key[2], len(order)), key[2]))
    titles = {label: title(name, labels, label) for name, labels in sweep.named.items() for label in labels}
    told = {case.solver: case.told for case in sweep.asked}
    made = [
        _Group(groups[key], told, titles if key[2] in order else {}, tables, sweep.extended).board(*key)
        for key in ordered
    ]
    stray = present.filter("stray")["job"].unique().sort().to_list()
    versions = mixed(tables.out, present["code"].unique().to_list())
    complete = _complete(tables, sweep)
    return Boards(sweep.name, sweep.about, len(sweep.jobs), complete, made, sweep.skipped, versions, stray)


def _complete(tables: Tables, sweep: Manifest) -> int:
    """The number of jobs that have results on every task they are to be tested on."""
    rows = tables.results.filter(pl.col("job").is_in(sweep.jobs)).select("job", "task", "test").unique().collect()
    by_job = rows.group_by("job", "task").agg("test")
    return sum({task, *sweep.tests} <= set(tests) for _, task, tests in by_job.iter_rows())


@dataclass(frozen=True)
class _Group:
    """The outcomes of one board, sorted by solver, step, protocol and seed."""

    rows: pl.DataFrame
    told: Mapping[str, str]
    titles: Mapping[str, str]
    tables: Tables
    extended: bool

    def board(self, task: str, test: str, protocol: str) -> Board:
        """The board."""
        has_seeds_alike = shared(protocol)
        draws, unit = self.rows["protocol"].n_unique(), unit_of(self.rows)
        moves = influence(self.tables, self.rows) if has_seeds_alike and draws == 1 else {}
        below = suspects(self.tables, self.rows)
        known = {solver: published(task, solver, protocol) if test == task else {} for solver in self._solvers}
        rows: dict[str, Row] = {}
        for summary in self._summaries():
            solver, depth = summary["solver"], summary["step"]
            if solver not in rows:
                lost = self.rows.filter((pl.col("solver") == solver) & (pl.col("status") == "diverged"))
                count, name = lost["job"].n_unique(), self.titles.get(solver, solver)
                rows[solver] = Row(solver, summary["family"], {}, {}, count, name, self.told.get(solver, ""))
            row = rows[solver]
            if summary["params"] is not None:
                row.params[depth] = summary["params"]
            cell = _cell(summary, unit, moves.get((solver, depth)), self.extended)
            row.cells[depth] = replace(
                cell, published=known[solver].get(depth), suspect=below.get((solver, depth)), redraws=draws
            )
        self._rank(rows, unit, moves)
        ordered, at = _ordered(list(rows.values()))
        return Board(task, test, protocol, ordered, at, has_seeds_alike, self.extended and not has_seeds_alike)

    @property
    def _solvers(self) -> list[str]:
        found: list[str] = self.rows["solver"].unique(maintain_order=True).to_list()
        return found

    def _summaries(self) -> Iterator[dict[str, Any]]:
        """Of every solver and depth: its losses, and what its cell says beside their mean."""
        heavy = pl.col("mse") > pl.col("q99")
        loose = (pl.col("family") == "bound") & (pl.col("fit_error") > LOOSE * pl.col("mse"))
        return (
            self.rows.group_by("solver", "family", "step", maintain_order=True)
            .agg(
                "loss",
                "protocol",
                "seed",
                pl.col("params").drop_nulls().first(),
                (heavy.mean() > 0.5).fill_null(False).alias("tail"),
                loose.any().alias("loose"),
                pl.col("median").log().mean().alias("typical"),
            )
            .iter_rows(named=True)
        )

    def _rank(self, rows: Mapping[str, Row], unit: str, moves: Mapping[tuple[str, int], Influence]) -> None:
        """Add ranks, ties and differences to the cells of methods, at each depth."""
        level = zero(self.rows)
        for depth in sorted({depth for row in rows.values() for depth in row.cells}):
            names = [name for name, row in rows.items() if row.competes and depth in row.cells]
            if len(names) < 2:
                continue
            rows_here = self.rows.filter((pl.col("step") == depth) & pl.col("solver").is_in(names))
            common = shared_variance([moves.get((name, depth)) for name in names])
            pairs = paired(
                losses_by_unit(rows_here, names, unit), level, common, sequential=self.extended and common is None
            )
            order = sorted(range(len(names)), key=lambda i: (*rows[names[i]].cells[depth].order, names[i]))
            ranks = ranking(names, [rows[name].told for name in names], order, pairs)
            before: str | None = None
            for i in order:
                row = rows[names[i]]
                row.cells[depth] = _ranked(row.cells[depth], row.solver, ranks, before)
                before = row.solver


def _cell(summary: Mapping[str, Any], unit: str, moves: Influence | None, extended: bool) -> Cell:
    """The cell of one solver at one depth, without its rank."""
    losses, by_unit = summary["loss"], dict[Any, list[float]]()
    ended = [loss for loss in losses if loss is not None]
    finite = [max(loss, EXACT) for loss in ended if loss < np.inf]
    counts = len(finite), len(losses), len(ended) - len(finite), len(losses) - len(ended)
    if not finite:
        return Cell(None, None, *counts, median=None)
    for value, loss in zip(summary[unit], losses, strict=True):
        if loss is not None and loss < np.inf:
            by_unit.setdefault(value, []).append(max(loss, EXACT))
    means = [float(np.mean(values)) for values in by_unit.values()]
    mean, half_width = mean_interval(means, sequential=extended and moves is None)
    if moves is not None:
        half_width = moves.half_width(means)
    median = float(np.median(ended))
    return Cell(
        mean,
        half_width,
        *counts,
        median=median if median < np.inf else None,
        typical=summary["typical"],
        tail=summary["tail"],
        outlier=bool(outliers(np.array(means))),
        exact=len(finite) == len(ended) and max(finite) == EXACT,
        loose=summary["loose"],
        **({"low": min(means), "high": max(means)} if unit == "protocol" else {"tenth": tenth(means)}),
    )


def _ranked(cell: Cell, solver: str, ranks: Ranking, before: str | None) -> Cell:
    return replace(
        cell,
        ranks=ranks.ranks.get(solver),
        of=ranks.sizes.get(solver, 0),
        group=ranks.groups[solver],
        above=ranks.difference(solver, before) if before else None,
    )


def _ordered(rows: list[Row]) -> tuple[list[Row], int | None]:
    """Rows sorted at the deepest depth that all methods have, or all rows where none compete, the best first; rows that
    lack the depth by their own deepest; and that depth.
    """
    having = [set(row.cells) for row in rows if row.cells and row.competes] or [set(row.cells) for row in rows]
    common = set.intersection(*having) if having else set()
    at = max(common, default=None)

    def place(row: Row) -> tuple[Any, ...]:
        depth = at if at in row.cells else max(row.cells, default=0)
        return (*row.cells[depth].order, row.solver) if row.cells else (True, 0.0, 0.0, row.solver)

    return sorted(rows, key=place), at
