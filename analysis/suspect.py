"""Rows that are too good: a mean error below that of a bound which no solver of the kind can beat.

A row and its bound are compared on the same prompts, block by block. To be below by chance is no fault. A row is
suspect only where the difference is larger than the variation between blocks of prompts explains, and larger than what
the bound may lack because it is fitted to finitely many prompts, together with what it would gain if it were fitted to
the test's own prompts: these may contain none of the rare prompts that cost the row dearly, which blocks do not show.
Both tests have an error rate of ALPHA for a whole board.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from scipy.special import chdtri, stdtrit

from .losses import EXACT, Losses
from .results import Tables

ALPHA = 1e-3  # probability that a board without fault has a suspect row
ROUNDING = 1e-6  # relative to a bound's error: equal methods may differ by this much
NEARLY = 1e-3  # nat: the mean of blocks may differ from that of their prompts by this much


Cell = tuple[str, str, int]  # protocol, solver, depth


def suspects(tables: Tables, board: Sequence[Losses]) -> dict[tuple[str, int], str]:
    """The bound that a solver at a depth is below, by (solver, depth). board: the losses of one task and test.

    On another task than its own a fitted bound does not hold.
    """
    cells: dict[Cell, Losses] = {(one.protocol, one.solver, one.depth): one for one in board}
    pairs, near = 0, list[tuple[Losses, Losses, np.ndarray]]()
    floors = _floors(tables, board)
    for one in board:
        for floor in floors.get((one.protocol, one.solver), ()) if one.family != "bound" else ():
            bound = cells.get((one.protocol, floor, one.depth))
            if bound is None or (floor.startswith("best_lfom") and one.test != one.task):
                continue
            _, mine, its = np.intersect1d(one.seeds, bound.seeds, assume_unique=True, return_indices=True)
            value, least = one.values[mine], bound.values[its]
            judged = np.isfinite(value) & np.isfinite(least) & (value > EXACT)
            pairs += int(judged.sum())
            below = judged & (value <= least + NEARLY)
            if below.any():
                near.append((one, bound, one.seeds[mine][below]))
    found: dict[tuple[str, int], str] = {}
    for one, bound, seeds in near:
        if any(_below(row, ALPHA / pairs) for row in _rows(tables, one, bound, seeds)):
            found[one.solver, one.depth] = bound.solver
    return found


KINDS = ("best_lfom", "best_krylov", "bayes")  # of bounds, the one that says most first
REFERENCE = "best_lfom(preconditioner=covariance)"  # what trained full preconditioners come to


def bounds_of(tables: Tables, board: Sequence[Losses]) -> dict[str, str]:
    """The bound on a board that says most of each solver: the best method of its kind; for full preconditioners, which
    have none, a reference.
    """
    present = {one.solver for one in board}
    found: dict[str, str] = {}
    for (_, solver), floors in _floors(tables, board).items():
        known = [floor for kind in KINDS for floor in floors if floor.startswith(kind) and floor in present]
        reference = [REFERENCE] if "preconditioner=full" in solver and REFERENCE in present else []
        if solver in present and (reference or known):
            found[solver] = [*(k for k in known if k.startswith("best_lfom")), *reference, *known][0]
    return found


def _floors(tables: Tables, board: Sequence[Losses]) -> dict[tuple[str, str], list[str]]:
    """The labels of the bounds of each solver, by protocol and solver; none where the board has no bounds."""
    return tables.floors.get(board[0].task, {}) if any(one.family == "bound" for one in board) else {}


def _rows(tables: Tables, one: Losses, bound: Losses, seeds: np.ndarray) -> Iterator[dict[str, Any]]:
    """A row for each of these seeds: the means of blocks of both, and what is known of the bound's fit."""
    here = (pl.col("test") == one.test) & (pl.col("task") == one.task) & (pl.col("protocol") == one.protocol)
    here = here & (pl.col("step") == one.depth) & pl.col("seed").is_in(seeds.tolist())
    mine, its = (tables.blocks(here & (pl.col("solver") == each.solver)) for each in (one, bound))
    budgets = tables.jobs.select("job", "budget")
    its = its.lazy().join(budgets, on="job", how="left").collect()
    limit = its.select("seed", "budget", "fit_error", "mse", pl.col("blocks").alias("limit"), pl.col("prompts"))
    yield from mine.select("seed", "blocks").join(limit, on="seed").sort("seed").iter_rows(named=True)


def _below(row: Mapping[str, Any], level: float) -> bool:
    """Whether a row is below its bound by more than chance allows, at an error rate of `level`."""
    limit = np.array(row["limit"])
    gap = np.array(row["blocks"]) - limit
    # The excess of a fit to N prompts, like the gain of a fit to N test prompts, is 1 / N times a weighted sum of
    # squares of normal numbers, whose tail is at most as heavy as that of the square of one normal number.
    excess = (row["fit_error"] or 0.0) * (1 + (row["budget"] or 0) / row["prompts"])
    allowed = ROUNDING * row["mse"] + excess * chdtri(1, level)
    spread = gap.std(ddof=1) / np.sqrt(len(gap))
    return bool(gap.mean() + allowed < stdtrit(len(gap) - 1, level) * spread)
