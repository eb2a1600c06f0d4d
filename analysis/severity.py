"""How solvers stand along an axis of severity: who beats whom, where that changes, the worst case, the area beneath."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Any

from .axis import Along, Point
from .board import EXACT
from .statistics import mean_interval

WIDE = 20  # times the least of an axis' values the largest is, from which on the axis is logarithmic


@dataclass(frozen=True)
class Duel:
    """One solver against another at a value of the axis: the difference of their log errors, paired by seed, which
    gives both the same rotation, and the same prompts where they draw them alike. Below 0 the first is better; what is
    nothing but rounding is even.
    """

    x: Any
    mean: float
    half_width: float | None  # of the 95 % interval
    tasks: tuple[str, str]  # that the two were trained for: one and the same

    @property
    def verdict(self) -> str:
        """better, worse, or even where the interval holds 0 or there is none."""
        if self.half_width is None or abs(self.mean) <= self.half_width:
            return "even"
        return "better" if self.mean < 0 else "worse"


@dataclass(frozen=True)
class Standing:
    """A solver along the whole axis. worst: infinite where a seed diverged. area: the mean log error over the axis, by
    trapezoids.
    """

    solver: str
    worst: float
    worst_at: Any
    area: float | None  # None where the axis is no number, values are missing, or a seed diverged

    @property
    def diverged(self) -> bool:
        """Whether a seed did, somewhere."""
        return math.isinf(self.worst)


@dataclass(frozen=True)
class Crossing:
    """Between these neighbours on the axis the first of two solvers overtakes the second, or falls behind."""

    low: Duel
    high: Duel

    @property
    def at(self) -> float | None:
        """Where the straight line between the two differences meets 0; None where the axis is no number."""
        a, b = self.low.x, self.high.x
        if not isinstance(a, int | float) or not isinstance(b, int | float):
            return None
        share = self.low.mean / (self.low.mean - self.high.mean)
        if a > 0 and b > 2 * a:
            return float(math.exp(math.log(a) + share * (math.log(b) - math.log(a))))
        return float(a + share * (b - a))

    @property
    def sure(self) -> bool:
        """Whether both sides are beyond chance."""
        return "even" not in (self.low.verdict, self.high.verdict)


def duels(line: Along, chart: str, first: str, second: str) -> list[Duel]:
    """At every value that both have."""
    one, other = line.of(chart, first), line.of(chart, second)
    return [_duel(x, one[x], other[x]) for x in one if x in other and one[x].losses.keys() & other[x].losses.keys()]


def _duel(x: Any, one: Point, other: Point) -> Duel:
    seeds = sorted(one.losses.keys() & other.losses.keys())
    mean, half = mean_interval([max(one.losses[seed], EXACT) - max(other.losses[seed], EXACT) for seed in seeds])
    return Duel(x, mean, half, (one.task, other.task))


def crossings(found: Sequence[Duel]) -> list[Crossing]:
    """Where the sign of the difference flips from one value to the next at which there is a difference."""
    return [Crossing(a, b) for a, b in pairwise(one for one in found if one.mean) if a.mean * b.mean < 0]


def standings(line: Along, chart: str) -> list[Standing]:
    """Of every solver, the lowest worst case first; over the values that all have."""
    solvers = {point.solver: line.of(chart, point.solver) for point in line.points if point.chart == chart}
    shared = set.intersection(*(set(mine) for mine in solvers.values()))
    if not shared:
        return []
    made = [_standing(solver, {x: mine[x] for x in mine if x in shared}) for solver, mine in solvers.items()]
    return sorted(made, key=lambda one: (one.worst, one.solver))


def _standing(solver: str, points: Mapping[Any, Point]) -> Standing:
    means = {x: math.inf if point.lost else point.mean for x, point in points.items()}
    worst = max(means, key=lambda x: means[x])
    return Standing(solver, means[worst], worst, area(means) if math.isfinite(means[worst]) else None)


def area(means: Mapping[Any, float]) -> float | None:
    """The mean over the axis as charts draw it. What is nothing but rounding counts as EXACT."""
    if not all(isinstance(x, int | float) for x in means) or len(means) < 2:
        return None
    xs = sorted(means)
    at, losses = _drawn(xs), [max(means[x], EXACT) for x in xs]
    parts = [(b - a) * fmean(pair) for (a, b), pair in zip(pairwise(at), pairwise(losses), strict=True)]
    return math.fsum(parts) / (at[-1] - at[0])


def _drawn(xs: Sequence[float]) -> list[float]:
    """Where ascending values lie in a chart: logarithmic where the axis is wide; a little less so where it holds 0."""
    least = next((x for x in xs if x > 0), math.inf)
    if xs[0] < 0 or xs[-1] <= WIDE * least:
        return [float(x) for x in xs]
    return [math.log(x) if xs[0] else math.log1p(x / least) for x in xs]
