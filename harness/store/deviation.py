"""How far two measurements of the same (job, test, step) are apart."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

TOLERANCE = 1e-3  # in the logarithm of the mean squared error, after full training
FLOOR = 1e-12  # of the error of predicting 0: below it an error is rounding, and so is its logarithm

Row = Mapping[str, Any]


def deviation(old: Row, new: Row) -> float:
    """Absolute difference of the log mse of two rows; infinite where just one of them diverged."""
    if old["mse"] is None or new["mse"] is None:
        return 0.0 if old["mse"] == new["mse"] else math.inf
    least = FLOOR * old["mse"] / old["mse_normalised"] if old["mse_normalised"] else 0.0
    return abs(math.log(max(old["mse"], least)) - math.log(max(new["mse"], least)))


def largest(old: Iterable[Row], new: Iterable[Row]) -> dict[str, tuple[float, Row]]:
    """By job: its largest deviation over tests and steps, and the old row where that is."""
    before = {(row["job"], row["test"], row["step"]): row for row in old}
    worst: dict[str, tuple[float, Row]] = {}
    for row in new:
        match = before.get((row["job"], row["test"], row["step"]))
        if match is not None:
            worst[row["job"]] = max(
                worst.get(row["job"], (-1.0, row)), (deviation(match, row), match), key=lambda one: one[0]
            )
    return worst
