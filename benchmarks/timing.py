"""Fair times: two programs in turn, medians, and the ratio pair by pair."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """A line of the table: seconds for a unit of work, theirs and ours, and theirs over ours."""

    work: str
    unit: str
    theirs: float | None
    ours: float
    ratio: float | None
    low: float | None
    high: float | None
    goal: float | None
    note: str = ""


def timed(run: Callable[[], object]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def interleaved(
    work: str,
    goal: float | None,
    *,
    ours: tuple[Callable[[], object], int],
    theirs: tuple[Callable[[], object], int],
    rounds: int,
    note: str = "",
) -> Row:
    """Both in turn; the first round warms up. Each is a program and the units of work it does."""
    pairs = [(timed(theirs[0]) / theirs[1], timed(ours[0]) / ours[1]) for _ in range(rounds + 1)][1:]
    ratios = [a / b for a, b in pairs]
    return Row(
        work,
        "ms a step and job",
        1000 * statistics.median(a for a, _ in pairs),
        1000 * statistics.median(b for _, b in pairs),
        statistics.median(ratios),
        min(ratios),
        max(ratios),
        goal,
        note,
    )


def spread(values: list[float]) -> str:
    """In words, beside their median."""
    return f"{len(values)} rounds, {min(values):,.0f} to {max(values):,.0f}"
