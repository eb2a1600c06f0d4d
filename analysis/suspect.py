"""Rows that are too good: a mean error below that of a bound which no solver of the kind can beat.

A row and its bound are compared on the same prompts, block by block. Below by chance is no sin: a row is suspect where
the difference is beyond what blocks of prompts vary by; and beyond what a bound that is fitted to finitely many prompts
lacks, and what it would gain if it were fitted to the test's own: these may have none of the rare prompts that cost the
row dearly, and then blocks do not tell. Both at an error rate of ALPHA for a whole board.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from scipy.special import chdtri, stdtrit

ALPHA = 1e-3  # chance that a board without fault has a suspect row
ROUNDING = 1e-6  # of a bound: methods that are equal may differ by so much
EXACT = 1e-10  # of the error of predicting 0: below it errors are rounding


def suspects(
    rows: pl.DataFrame, floors: Mapping[str, Sequence[str]], fitted: Mapping[str, int]
) -> dict[tuple[str, int], str]:
    """The bound that a solver at a depth beats, by (solver, depth). rows: a board's, at their depth, with blocks.

    floors: of each job, labels of bounds. On another task than its own a fitted bound is none. fitted: of each job,
    prompts that it was fitted to.
    """
    key = ("solver", "seed", "protocol", "step")
    is_bound = (pl.col("family") == "bound") & pl.col("blocks").is_not_null()
    bounds = {tuple(row[name] for name in key): row for row in rows.filter(is_bound).iter_rows(named=True)}
    judged = rows.filter((pl.col("family") != "bound") & (pl.col("mse_normalised") > EXACT))
    pairs = [
        (row, bound)
        for row in judged.iter_rows(named=True)
        for floor in floors.get(row["job"], ())
        if (bound := bounds.get((floor, *(row[name] for name in key[1:]))))
        and not (floor.startswith("best_lfom") and row["test"] != row["task"])
    ]
    return {
        (row["solver"], row["step"]): bound["solver"]
        for row, bound in pairs
        if _below(row, bound, fitted.get(bound["job"]) or 0, ALPHA / len(pairs))
    }


def _below(row: Mapping[str, Any], bound: Mapping[str, Any], fitted: int, level: float) -> bool:
    """Whether a row is too good, at an error rate of `level`."""
    gap = np.array(row["blocks"]) - np.array(bound["blocks"])
    # Of N prompts the fit's excess, as of the test's its gain, is 1 / N times one weighted sum of squares of normal
    # numbers, whose tail is at most as heavy as one's square.
    excess = (bound["fit_error"] or 0.0) * (1 + fitted / bound["prompts"])
    allowed = ROUNDING * bound["mse"] + excess * chdtri(1, level)
    spread = gap.std(ddof=1) / np.sqrt(len(gap))
    return bool(gap.mean() + allowed < stdtrit(len(gap) - 1, level) * spread)
