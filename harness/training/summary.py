"""What is kept of the squared errors of test prompts."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ..store import schema

AT_ONCE = 1 << 22  # squared errors

Columns = dict[str, list[Any]]


def overflow(squared_error: torch.Tensor) -> list[str | None]:
    """Why each job counts as diverged on a test though training did not: an iterate has no finite mean error. Squared
    errors `jobs steps prompts`.
    """
    finite = squared_error.mean(-1).isfinite()
    reasons: list[str | None] = [None] * len(finite)
    for j in (~finite.all(-1)).nonzero().flatten().tolist():
        reasons[j] = f"the test error is not finite from step {finite[j].tolist().index(False)} on"
    return reasons


def losses_of(squared_error: np.ndarray[Any, Any], diverged: Sequence[bool]) -> Columns:
    """Columns with a row for each job and iterate, from squared errors `jobs steps prompts`; null where training
    diverged.
    """
    jobs, steps, prompts = squared_error.shape
    found: Columns = {"step": [*range(steps)] * jobs, "prompts": [prompts] * (jobs * steps)}
    many = max(1, AT_ONCE // max(1, steps * prompts))
    for first in range(0, jobs, many):
        for name, values in _summary(squared_error[first : first + many]).items():
            found.setdefault(name, []).extend(values)
    lost = [j * steps + k for j, is_lost in enumerate(diverged) if is_lost for k in range(steps)]
    for name in NUMBERS:
        for i in lost:
            found[name][i] = None
    return found


NUMBERS = ("mse", "log_mse", "mse_normalised", "median", "q90", "q99", "failure_rate", "blocks")


@np.errstate(all="ignore")  # there are jobs that diverged
def _summary(error: np.ndarray[Any, Any]) -> Columns:
    """Of some jobs."""
    zero, mse = error[:, :1], error.mean(-1)
    quantiles = np.quantile(error, [0.5, 0.9, 0.99], axis=-1)
    blocks = [part.mean(-1) for part in np.array_split(error, min(schema.BLOCKS, error.shape[-1]), -1)]
    normalised = mse / zero.mean(-1)
    columns = [mse, normalised, *quantiles, 1 - (error <= zero).mean(-1)]
    flat = dict(zip(("mse", "mse_normalised", "median", "q90", "q99", "failure_rate"), columns, strict=True))
    found: Columns = {name: column.ravel().tolist() for name, column in flat.items()}
    found["log_mse"] = [math.log(max(x, sys.float_info.min)) if math.isfinite(x) else None for x in found["mse"]]
    found["blocks"] = np.stack(blocks, -1).reshape(mse.size, -1).tolist()
    return found
