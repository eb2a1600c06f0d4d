"""Rows that are too good: a mean error below that of a bound which no solver of the kind can beat.

A row and its bound are compared on the same prompts, block by block. To be below by chance is no fault. A row is
suspect only where the difference is larger than the variation between blocks of prompts explains, and larger than what
the bound may lack because it is fitted to finitely many prompts, together with what it would gain if it were fitted to
the test's own prompts: these may contain none of the rare prompts that cost the row dearly, which blocks do not show.
Both tests have an error rate of ALPHA for a whole board.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from scipy.special import chdtri, stdtrit

from .results import Tables

ALPHA = 1e-3  # probability that a board without fault has a suspect row
ROUNDING = 1e-6  # relative to a bound's error: equal methods may differ by this much
NEARLY = 1.001  # times a bound's error: the mean of blocks may differ from that of their prompts by this much
EXACT = 1e-10  # relative to the error of predicting 0: smaller errors are only rounding


def suspects(tables: Tables, rows: pl.DataFrame) -> dict[tuple[str, int], str]:
    """The bound that a solver at a depth is below, by (solver, depth). rows: a board's, at their depth.

    On another task than its own a fitted bound does not hold.
    """
    key = ["seed", "protocol", "step"]
    rows = rows.filter(pl.col("job").is_not_null() & pl.col("mse").is_not_null())
    bounds = rows.filter(pl.col("family") == "bound").select(
        *key, pl.col("solver").alias("floor"), pl.col("job").alias("bound"), pl.col("mse").alias("least"), "fit_error"
    )
    judged = rows.filter((pl.col("family") != "bound") & (pl.col("mse_normalised") > EXACT))
    if bounds.is_empty() or judged.is_empty():
        return {}
    jobs = tables.jobs.select("job", "floors", "budget").collect()
    floors = jobs.select("job", pl.col("floors").alias("floor")).explode("floor")
    fitted_elsewhere = pl.col("floor").str.starts_with("best_lfom") & (pl.col("test") != pl.col("task"))
    pairs = (
        judged.select("job", "test", "task", "solver", "mse", *key)
        .join(floors, on="job")
        .filter(~fitted_elsewhere)
        .join(bounds, on=[*key, "floor"])
    )
    below = pairs.filter(pl.col("mse") <= pl.col("least") * NEARLY)
    below = tables.with_blocks(below).join(jobs.select(pl.col("job").alias("bound"), "budget"), on="bound", how="left")
    below = tables.with_blocks(below, job="bound", name="limit").sort("solver", "step", "seed")
    return {
        (row["solver"], row["step"]): row["floor"]
        for row in below.iter_rows(named=True)
        if _below(row, ALPHA / len(pairs))
    }


def _below(row: Mapping[str, Any], level: float) -> bool:
    """Whether a row is below its bound by more than chance allows, at an error rate of `level`."""
    limit = np.array(row["limit"])
    gap = np.array(row["blocks"]) - limit
    # The excess of a fit to N prompts, like the gain of a fit to N test prompts, is 1 / N times a weighted sum of
    # squares of normal numbers, whose tail is at most as heavy as that of the square of one normal number.
    excess = (row["fit_error"] or 0.0) * (1 + (row["budget"] or 0) / row["prompts"])
    allowed = ROUNDING * row["least"] + excess * chdtri(1, level)
    spread = gap.std(ddof=1) / np.sqrt(len(gap))
    return bool(gap.mean() + allowed < stdtrit(len(gap) - 1, level) * spread)
