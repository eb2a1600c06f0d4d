"""What is kept of the squared errors of test prompts."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
import torch

from . import schema

Rows = list[dict[str, Any]]


def overflow(squared_error: torch.Tensor) -> str | None:
    """Why a job counts as diverged on a test though training did not: an iterate has no finite mean error."""
    finite = squared_error.mean(-1).isfinite().tolist()
    return None if all(finite) else f"the test error is not finite from step {finite.index(False)} on"


def losses_of(squared_error: np.ndarray[Any, Any], diverged: bool) -> Rows:
    """A row per iterate, from squared errors `steps prompts`; without numbers where training diverged."""
    zero, prompts = squared_error[0], squared_error.shape[1]
    rows: Rows = [{"step": step, "prompts": prompts} for step in range(len(squared_error))]
    if diverged:
        return rows
    for row, error in zip(rows, squared_error, strict=True):
        median, q90, q99 = np.quantile(error, [0.5, 0.9, 0.99])
        mse = float(error.mean())
        row |= {
            "mse": mse,
            "log_mse": math.log(max(mse, sys.float_info.min)),
            "mse_normalised": mse / float(zero.mean()),
            "median": median,
            "q90": q90,
            "q99": q99,
            "failure_rate": float(1 - (error <= zero).mean()),
            "blocks": [float(block.mean()) for block in np.array_split(error, min(schema.BLOCKS, prompts))],
        }
    return rows
