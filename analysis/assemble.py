"""From the outcomes of a sweep to its boards."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from lfombench.harness.store.manifest import Manifest

from .board import Board, Boards, Row
from .board import Cell as Shown
from .costs import chosen, costs
from .influence import Influence, influence, shared_variance
from .losses import EXACT, Losses, outcomes
from .matrix import Cell, by_unit, cells, redrawn, zero
from .pairs import Pairs, joined, paired
from .published import published, shared, undrawn
from .results import Tables, mixed
from .statistics import Sample
from .suspect import bounds_of, suspects
from .titles import natural, title
from .verdicts import Ranking, difference_at, ranking


def boards(tables: Tables, sweep: Manifest, limits: Mapping[str, float] | None = None) -> Boards:
    """Every board of a sweep, from what the store holds of it. limits: what methods may cost at most, by the names of
    COSTS; then each has one cell, that of the deepest it may be, and these are ranked among each other.
    """
    found = outcomes(tables, sweep)
    groups = found.boards()
    order = {undrawn(name): i for i, name in reversed(list(enumerate(sweep.protocols)))}

    def place(key: tuple[str, str, str]) -> tuple[Any, ...]:
        task, test, protocol = key
        return natural(task), test != task, natural(test), order.get(protocol, len(order)), protocol

    ordered = sorted(groups, key=place)
    titles = {label: title(name, labels, label) for name, labels in sweep.named.items() for label in labels}
    told = {case.solver: case.told for case in sweep.asked}
    made = [
        _Group(groups[key], told, titles if key[2] in order else {}, tables, sweep.extended).board(*key, limits or {})
        for key in ordered
    ]
    stray = [one for one in found.losses if one.stray]
    return Boards(
        sweep.name,
        sweep.about,
        len(sweep.jobs),
        found.done,
        made,
        sweep.skipped,
        mixed(tables.out, found.codes),
        [f"{one.solver} at depth {one.depth} on {one.test}" for one in stray],
    )


@dataclass(frozen=True)
class _Group:
    """The losses of one board, sorted by protocol, solver and depth."""

    losses: Sequence[Losses]
    told: Mapping[str, str]
    titles: Mapping[str, str]
    tables: Tables
    extended: bool

    @functools.cached_property
    def cells(self) -> dict[tuple[str, int], Cell]:
        """The cells, by solver and depth."""
        return {(cell.solver, cell.depth): cell for cell in cells(self.losses)}

    @functools.cached_property
    def draws(self) -> bool:
        """Whether the prompts were drawn more than once, so that draws and not seeds are what repeats."""
        return redrawn(self.losses)

    @functools.cached_property
    def alike(self) -> bool:
        """Whether all seeds have the same prompts."""
        return shared(self.losses[0].protocol)

    @functools.cached_property
    def moves(self) -> Mapping[tuple[str, int], Influence]:
        """What shared prompts do to each cell; empty where seeds have prompts of their own."""
        return influence(self.tables, self.losses) if self.alike and not self.draws else {}

    @functools.cached_property
    def zero(self) -> float | None:
        """The log error of predicting 0, where one of the losses was lost and counts as that."""
        return zero(self.tables, self.losses)

    @property
    def sequential(self) -> bool:
        """Whether seeds were added until something was decided."""
        return self.extended and not self.alike

    def paired(self, keys: Sequence[tuple[str, int]]) -> Pairs:
        """All pairs of some cells."""
        common = shared_variance([self.moves.get(key) for key in keys])
        losses = by_unit([self.cells[key] for key in keys], self.draws)
        return paired(losses, self.zero, common, sequential=self.sequential)

    def board(self, task: str, test: str, protocol: str, limits: Mapping[str, float]) -> Board:
        """The board of these losses: its cells, ranks and differences, its rows in order."""
        count = len({one.protocol for one in self.losses})
        below = suspects(self.tables, self.losses)
        rows: dict[str, Row] = {}
        every = list(self.cells.values())
        diverged = _diverged(every)
        typical = self._typical(every, test)
        for cell in every:
            solver, depth = cell.solver, cell.depth
            if solver not in rows:
                name = self.titles.get(solver, solver)
                rows[solver] = Row(solver, cell.family, {}, {}, diverged[solver], name, self.told.get(solver, ""))
            row, params = rows[solver], [one.params for one in cell.draws if one.params is not None]
            if params:
                row.params[depth] = params[0]
            if row.competes:
                row.costs[depth] = costs(self.tables, cell.draws[0])
            known = published(task, solver, protocol) if test == task else {}
            row.cells[depth] = self._shown(
                cell,
                published=known.get(depth),
                suspect=below.get((solver, depth)),
                redraws=count,
                typical=typical.get((solver, depth)),
            )
        self._over(rows)
        if limits:
            within, left = chosen(list(rows.values()), limits)
            keys = [(row.solver, depth) for row in within for depth in row.cells]
            if len(within) > 1:
                self._rank({row.solver: row for row in within}, keys)
            ordered = sorted(within, key=lambda row: (*row.deepest.order, row.solver))
            return Board(task, test, protocol, ordered, None, self.alike, self.sequential, {}, limits, left)
        rankings = {}
        for depth in sorted({depth for row in rows.values() for depth in row.cells}):
            here = [(name, depth) for name, row in rows.items() if row.competes and depth in row.cells]
            if len(here) > 1:
                rankings[depth] = self._rank(rows, here)
        ordered, at = _ordered(list(rows.values()))
        return Board(task, test, protocol, ordered, at, self.alike, self.sequential, rankings)

    def _shown(self, cell: Cell, **known: Any) -> Shown:
        """The cell of one solver at one depth as it is shown, without its rank. known: what else is known of it."""
        values = cell.values
        ended = values[~np.isnan(values)]
        finite = np.maximum(ended[np.isfinite(ended)], EXACT)
        counts = len(finite), len(values), len(ended) - len(finite), len(values) - len(ended)
        if not len(finite):
            return Shown(None, None, *counts, **known)
        means = finite
        if self.draws:
            by_draw = np.array(list(cell.by_unit(self.draws).values()))
            means = by_draw[np.isfinite(by_draw)] if np.isfinite(by_draw).any() else finite
        sample, moves = Sample.of(means), self.moves.get((cell.solver, cell.depth))
        half_width = sample.half_width(self.sequential) if moves is None else moves.half_width(sample)
        exact = len(finite) == len(ended) and bool(finite.max() == EXACT)
        median = float(np.median(ended))
        return Shown(
            sample.mean,
            0.0 if exact and half_width is not None else half_width,
            *counts,
            median=median if median < np.inf else None,
            tail=2 * sum(one.heavy for one in cell.draws) > len(finite),
            outlier=sample.outlier,
            exact=exact,
            loose=any(one.loose for one in cell.draws),
            tenth=None if self.draws else sample.tenth,
            low=means.min().item() if self.draws else None,
            high=means.max().item() if self.draws else None,
            **known,
        )

    def _typical(self, every: Sequence[Cell], test: str) -> dict[tuple[str, int], float]:
        """Of cells with a heavy tail, by solver and depth: the mean over seeds of the log of the median error."""
        heavy = [cell for cell in every if 2 * sum(one.heavy for one in cell.draws) > np.isfinite(cell.values).sum()]
        if not heavy:
            return {}
        solvers, [task] = sorted({cell.solver for cell in heavy}), {one.task for one in self.losses}
        rows = self.tables.medians(task, test, sorted({one.protocol for one in self.losses}), solvers)
        means = rows.group_by("solver", "step", maintain_order=True).agg(pl.col("median").log().mean())
        found = {(solver, step): value for solver, step, value in means.iter_rows()}
        return {key: found[key] for cell in heavy if (key := (cell.solver, cell.depth)) in found}

    def _rank(self, rows: Mapping[str, Row], keys: Sequence[tuple[str, int]]) -> Ranking:
        """Add ranks, ties and differences to cells of different methods, each with its depth; the ranking."""
        names, found = [name for name, _ in keys], [rows[name].cells[depth] for name, depth in keys]
        order = sorted(range(len(keys)), key=lambda i: (*found[i].order, names[i]))
        ranks = ranking(names, [rows[name].told for name in names], order, self.paired(keys))
        for before, i in zip([None, *order], order, strict=False):
            name, depth = keys[i]
            rows[name].cells[depth] = _ranked(found[i], name, ranks, None if before is None else names[before])
        return ranks

    def _over(self, rows: Mapping[str, Row]) -> None:
        """Add the difference to the bound of its kind to the cells of methods."""
        bounds = bounds_of(self.tables, self.losses)
        met = [
            (solver, depth, bound)
            for (solver, depth) in self.cells
            if rows[solver].competes and (bound := bounds.get(solver)) and (bound, depth) in self.cells
        ]
        if not met:
            return
        pairs = joined([self.paired([(solver, depth), (bound, depth)]) for solver, depth, bound in met])
        for at, (solver, depth, bound) in enumerate(met):
            shown = rows[solver].cells
            shown[depth] = replace(shown[depth], over=difference_at(pairs, at, 1, bound))


def _diverged(every: Sequence[Cell]) -> dict[str, int]:
    """By solver, the number of jobs that diverged: those of all depths, which have jobs of their own if trained."""
    found: dict[str, int] = {}
    for cell in every:
        here, before = sum(one.diverged for one in cell.draws), found.get(cell.solver, 0)
        found[cell.solver] = before + here if cell.family == "learned" else max(before, here)
    return found


def _ranked(cell: Shown, solver: str, ranks: Ranking, before: str | None) -> Shown:
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
        cell = row.cells[at] if at is not None and at in row.cells else row.deepest
        return (*cell.order, row.solver)

    return sorted(rows, key=place), at
