"""Rows that are too good: a mean error below that of a bound which no solver of the kind can beat.

A row and its bound are compared on the same prompts, block by block. To be below by chance is no fault. A row is
suspect only where the difference is larger than the variation between blocks of prompts explains, and larger than what
the bound may lack because it is fitted to finitely many prompts, together with what it would gain if it were fitted to
the test's own prompts: these may contain none of the rare prompts that cost the row dearly, which blocks do not show.
Both tests have an error rate of ALPHA for a whole board.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from scipy.special import chdtri, stdtrit

ALPHA = 1e-3  # probability that a board without fault has a suspect row
ROUNDING = 1e-6  # relative to a bound's error: equal methods may differ by this much
EXACT = 1e-10  # relative to the error of predicting 0: smaller errors are only rounding


def suspects(
    rows: pl.DataFrame, floors: Mapping[str, Sequence[str]], fitted: Mapping[str, int]
) -> dict[tuple[str, int], str]:
    """The bound that a solver at a depth is below, by (solver, depth). rows: a board's, at their depth, with blocks.

    floors: labels of the bounds of each job. On another task than its own a fitted bound does not hold. fitted: the
    number of prompts that each job was fitted to.
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
    """Whether a row is below a bound by more than chance allows, at an error rate of `level`."""
    gap = np.array(row["blocks"]) - np.array(bound["blocks"])
    # The excess of a fit to N prompts, like the gain of a fit to N test prompts, is 1 / N times a weighted sum of
    # squares of normal numbers, whose tail is at most as heavy as that of the square of one normal number.
    excess = (bound["fit_error"] or 0.0) * (1 + fitted / bound["prompts"])
    allowed = ROUNDING * bound["mse"] + excess * chdtri(1, level)
    spread = gap.std(ddof=1) / np.sqrt(len(gap))
    return bool(gap.mean() + allowed < stdtrit(len(gap) - 1, level) * spread)
