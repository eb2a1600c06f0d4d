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
ON_DEVICE = 1 << 26  # the same on a device
QUANTILES = (0.5, 0.9, 0.99)

Columns = dict[str, list[Any]]


def overflow(squared_error: Float[torch.Tensor, "jobs steps prompts"]) -> list[str | None]:
    """Why each job counts as diverged on a test though training did not: an iterate has no finite mean error."""
    finite = squared_error.mean(-1).isfinite()
    reasons: list[str | None] = [None] * len(finite)
    for j in (~finite.all(-1)).nonzero().flatten().tolist():
        reasons[j] = f"the test error is not finite from step {finite[j].tolist().index(False)} on"
    return reasons


def losses_of(squared_error: Float[torch.Tensor, "jobs steps prompts"], diverged: Sequence[bool]) -> Columns:
    """Columns with a row for each job and iterate, from squared errors `jobs steps prompts`; null where training
    diverged.
    """
    jobs, steps, prompts = squared_error.shape
    columns: Columns = {"step": [*range(steps)] * jobs, "prompts": [prompts] * (jobs * steps)}
    here = squared_error.device.type == "cpu"
    many = max(1, (BATCH if here else ON_DEVICE) // max(1, steps * prompts))
    for first in range(0, jobs, many):
        part = squared_error[first : first + many]
        statistics = _statistics(part.numpy()) if here else _on_device(part)
        for name, values in _columns(*statistics).items():
            columns.setdefault(name, []).extend(values)
    lost = [j * steps + k for j, is_lost in enumerate(diverged) if is_lost for k in range(steps)]
    for name in NUMBERS:
        for i in lost:
            columns[name][i] = None
    return columns


NUMBERS = ("mse", "log_mse", "mse_normalised", "median", "q90", "q99", "failure_rate", "blocks")


@np.errstate(all="ignore")  # errors of jobs that diverged overflow
def _statistics(error: Float[np.ndarray, "jobs steps prompts"]) -> tuple[Columns, list[list[float]]]:
    """What is told of the errors, by job and step; and the means of their blocks."""
    zero, mse = error[:, :1], error.mean(-1)
    quantiles = np.quantile(error, QUANTILES, axis=-1)
    blocks = [part.mean(-1) for part in np.array_split(error, min(schema.BLOCKS, error.shape[-1]), -1)]
    values = [mse, mse / zero.mean(-1), *quantiles, 1 - (error <= zero).mean(-1)]
    return _named(values), np.stack(blocks, -1).reshape(mse.size, -1).tolist()


def _on_device(error: Float[torch.Tensor, "jobs steps prompts"]) -> tuple[Columns, list[list[float]]]:
    """The same, computed where the errors are."""
    zero, mse, prompts = error[:, :1], error.mean(-1), error.shape[-1]
    ordered = error.sort(-1).values  # nan last
    quantiles = []
    for q in QUANTILES:
        place = q * (prompts - 1)
        low, t = int(place), place - int(place)
        below, above = ordered[..., low], ordered[..., min(low + 1, prompts - 1)]
        between = below + (above - below) * t if t < 0.5 else above - (above - below) * (1 - t)
        quantiles.append(torch.where(ordered[..., -1].isnan(), torch.nan, between))
    blocks = [part.mean(-1) for part in error.tensor_split(min(schema.BLOCKS, prompts), -1)]
    values = [mse, mse / zero.mean(-1), *quantiles, 1 - (error <= zero).double().mean(-1)]
    return _named([x.cpu().numpy() for x in values]), torch.stack(blocks, -1).flatten(0, 1).tolist()


def _named(values: Sequence[Float[np.ndarray, "jobs steps"]]) -> Columns:
    names = ("mse", "mse_normalised", "median", "q90", "q99", "failure_rate")
    return {name: column.ravel().tolist() for name, column in zip(names, values, strict=True)}


def _columns(columns: Columns, blocks: list[list[float]]) -> Columns:
    """The columns of some jobs, whether they diverged or not."""
    columns["log_mse"] = [math.log(max(x, sys.float_info.min)) if math.isfinite(x) else None for x in columns["mse"]]
    return columns | {"blocks": blocks}
