"""Who may be the best at each value of a sweep's axis."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from .axis import Along
from .losses import EXACT
from .pairs import paired
from .statistics import rank_sets


@dataclass(frozen=True)
class Lead:
    """The methods that may be the best at a value of the axis, the best mean first, and how far any two of them may be
    apart, at 95 % for all pairs of the value together.
    """

    x: Any
    names: tuple[str, ...]
    behind: tuple[str, ...]  # the other methods
    within: float


def leaders_along(line: Along, chart: str) -> list[Lead]:
    """At each value the methods that no other is significantly better than: paired by seed, Holm over all pairs of a
    value. Methods that lost a seed do not lead; of one seed, none does.
    """
    found: list[Lead] = []
    points = [point for point in line.points if point.chart == chart and point.competes]
    for x in sorted({point.x for point in points}):
        here = [point for point in points if point.x == x]
        here.sort(key=lambda point: (point.lost, point.mean, point.solver))
        seeds = sorted({seed for point in here for seed in point.losses})
        losses = np.array([[max(point.losses.get(seed, np.nan), EXACT) for seed in seeds] for point in here])
        if len(here) < 2 or len(seeds) < 2:
            found.append(Lead(x, (), (), math.inf))
            continue
        zero = next((point.zero for point in here if point.zero is not None), None)
        pairs = paired(losses, zero, sequential=any(point.extended for point in here))
        leads = [i for i, rank in enumerate(rank_sets(pairs.better)[0]) if rank == 1 and not here[i].lost]
        places = [pairs.index(i, j) for i, j in combinations(leads, 2)]
        within = [float(abs(pairs.mean[at]) + pairs.together[at]) for at in places]
        behind = tuple(point.solver for i, point in enumerate(here) if i not in leads)
        found.append(Lead(x, tuple(here[i].solver for i in leads), behind, max(within, default=0.0)))
    return found
