"""Rows that are too good: a mean error below that of a bound which no solver of the kind can beat.

A row and its bound are compared on the same prompts, block by block. Below by chance is no sin: a row is suspect where
the difference is beyond what blocks of prompts vary by, at an error rate of ALPHA for a whole board, and beyond MARGIN,
which is what is left open by fitting a bound to finitely many prompts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from scipy.special import stdtrit

ALPHA = 1e-3  # chance that a board without fault has a suspect row
MARGIN = 1e-2  # of the bound's error: nats
EXACT = 1e-10  # of the error of predicting 0: below it errors are rounding


def suspects(rows: pl.DataFrame, floors: Mapping[str, Sequence[str]]) -> dict[tuple[str, int], str]:
    """The bound that a solver at a depth beats, by (solver, depth). rows: a board's, at their depth, with blocks.

    floors: of each job, labels of bounds. On another task than its own a fitted bound is none.
    """
    bounds = {
        (row["solver"], row["seed"], row["protocol"], row["step"]): np.array(row["blocks"])
        for row in rows.filter((pl.col("family") == "bound") & pl.col("blocks").is_not_null()).iter_rows(named=True)
    }
    compared: list[tuple[tuple[str, int], str, float, int]] = []
    judged = rows.filter((pl.col("family") != "bound") & (pl.col("mse_normalised") > EXACT))
    for row in judged.iter_rows(named=True):
        for floor in floors.get(row["job"], ()):
            bound = bounds.get((floor, row["seed"], row["protocol"], row["step"]))
            if bound is None or (floor.startswith("best_lfom") and row["test"] != row["task"]):
                continue
            gap = np.array(row["blocks"]) - bound
            if gap.mean() < -MARGIN * bound.mean():
                spread = gap.std(ddof=1) / np.sqrt(len(gap))
                t = gap.mean() / spread if spread else -np.inf
                compared.append(((row["solver"], row["step"]), floor, float(t), len(gap)))
            else:
                compared.append(((row["solver"], row["step"]), floor, 0.0, len(gap)))
    level = ALPHA / max(len(compared), 1)
    return {where: floor for where, floor, t, blocks in compared if t < stdtrit(blocks - 1, level)}
