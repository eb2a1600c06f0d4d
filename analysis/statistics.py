"""Intervals over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy.special import stdtrit


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float | None]:
    """The mean, and the half-width of Student's t interval; None for the half-width of fewer than two values."""
    n = len(values)
    mean = math.fsum(values) / n
    if n < 2:
        return mean, None
    variance = math.fsum((v - mean) ** 2 for v in values) / (n - 1)
    return mean, float(stdtrit(n - 1, (1 + confidence) / 2)) * math.sqrt(variance / n)


def tenth(values: Sequence[float]) -> float | None:
    """A tenth of the standard deviation, which the paper draws as a band; None for fewer than two values."""
    if len(values) < 2:
        return None
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((v - mean) ** 2 for v in values) / len(values)) / 10
