"""Summaries of the squared errors of test prompts: means, quantiles, blocks."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from ..store import schema

BATCH = 1 << 22  # squared errors that are summarised at once

Columns = dict[str, list[Any]]


def overflow(squared_error: Float[torch.Tensor, "jobs steps prompts"]) -> list[str | None]:
    """Why each job counts as diverged on a test though training did not: an iterate has no finite mean error."""
    finite = squared_error.mean(-1).isfinite()
    reasons: list[str | None] = [None] * len(finite)
    for j in (~finite.all(-1)).nonzero().flatten().tolist():
        reasons[j] = f"the test error is not finite from step {finite[j].tolist().index(False)} on"
    return reasons


def losses_of(squared_error: Float[np.ndarray, "jobs steps prompts"], diverged: Sequence[bool]) -> Columns:
    """Columns with a row for each job and iterate, from squared errors `jobs steps prompts`; null where training
    diverged.
    """
    jobs, steps, prompts = squared_error.shape
    columns: Columns = {"step": [*range(steps)] * jobs, "prompts": [prompts] * (jobs * steps)}
    many = max(1, BATCH // max(1, steps * prompts))
    for first in range(0, jobs, many):
        for name, values in _summary(squared_error[first : first + many]).items():
            columns.setdefault(name, []).extend(values)
    lost = [j * steps + k for j, is_lost in enumerate(diverged) if is_lost for k in range(steps)]
    for name in NUMBERS:
        for i in lost:
            columns[name][i] = None
    return columns


NUMBERS = ("mse", "log_mse", "mse_normalised", "median", "q90", "q99", "failure_rate", "blocks")


@np.errstate(all="ignore")  # errors of jobs that diverged overflow
def _summary(error: Float[np.ndarray, "jobs steps prompts"]) -> Columns:
    """The same columns for some jobs, whether they diverged or not."""
    zero, mse = error[:, :1], error.mean(-1)
    quantiles = np.quantile(error, [0.5, 0.9, 0.99], axis=-1)
    blocks = [part.mean(-1) for part in np.array_split(error, min(schema.BLOCKS, error.shape[-1]), -1)]
    normalised = mse / zero.mean(-1)
    values = [mse, normalised, *quantiles, 1 - (error <= zero).mean(-1)]
    flat = dict(zip(("mse", "mse_normalised", "median", "q90", "q99", "failure_rate"), values, strict=True))
    columns: Columns = {name: column.ravel().tolist() for name, column in flat.items()}
    columns["log_mse"] = [math.log(max(x, sys.float_info.min)) if math.isfinite(x) else None for x in columns["mse"]]
    columns["blocks"] = np.stack(blocks, -1).reshape(mse.size, -1).tolist()
    return columns
