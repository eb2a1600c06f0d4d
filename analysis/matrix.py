"""Losses of a few solvers at one depth as an array, by seed or by draw of the prompts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from jaxtyping import Float

from .losses import EXACT


def unit_of(rows: pl.DataFrame) -> str:
    """What outcomes are repeated over: seeds, or draws of the prompts where there are several."""
    return "protocol" if rows["protocol"].n_unique() > 1 else "seed"


def losses_by_unit(rows: pl.DataFrame, solvers: Sequence[str], unit: str | None = None) -> Float[np.ndarray, "k units"]:
    """Log errors: inf where one was lost, nan where there is none yet. Over draws each is the mean over seeds. Errors
    that are only rounding count as EXACT.
    """
    unit = unit or unit_of(rows)
    means = rows.group_by("solver", unit).agg(pl.col("loss").clip(EXACT).mean()).drop_nulls("loss")
    units = {value: i for i, value in enumerate(rows[unit].unique().sort())}
    places = {name: i for i, name in enumerate(solvers)}
    losses = np.full((len(solvers), len(units)), np.nan)
    for solver, value, loss in means.iter_rows():
        losses[places[solver], units[value]] = loss
    return losses


def zero(rows: pl.DataFrame) -> float | None:
    """The log error of predicting 0; None where the store does not say."""
    gap = rows.select(pl.col("log_mse") - pl.col("mse_normalised").log()).to_series()
    values = gap.filter(gap.is_finite())
    return float(values.max()) if len(values) else None  # type: ignore[arg-type]
