"""Who may be the best at each value of a sweep's axis."""

from __future__ import annotations

from typing import Any

import numpy as np

from .axis import Along
from .losses import EXACT
from .pairs import paired
from .statistics import rank_sets


def leaders_along(line: Along, chart: str) -> list[tuple[Any, tuple[str, ...]]]:
    """At each value the methods that no other is significantly better than, the best mean first: paired by seed, Holm
    over all pairs of a value. Methods that lost a seed do not lead; of one seed, none does.
    """
    found: list[tuple[Any, tuple[str, ...]]] = []
    points = [point for point in line.points if point.chart == chart and point.competes]
    for x in sorted({point.x for point in points}):
        here = sorted(
            (point for point in points if point.x == x), key=lambda point: (point.lost, point.mean, point.solver)
        )
        seeds = sorted({seed for point in here for seed in point.losses})
        losses = np.array([[max(point.losses.get(seed, np.nan), EXACT) for seed in seeds] for point in here])
        if len(here) < 2 or len(seeds) < 2:
            found.append((x, ()))
            continue
        best, _ = rank_sets(paired(losses).better)
        names = [point.solver for point, rank in zip(here, best, strict=True) if rank == 1 and not point.lost]
        found.append((x, tuple(names)))
    return found
