"""Solvers compared along an axis: which one is better where, where that changes, the worst case, the area beneath."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Any

import numpy as np

from .axis import Along, Point
from .losses import EXACT
from .pairs import Pairs, joined, paired
from .verdicts import Difference, difference_at

WIDE = 20  # an axis is logarithmic where its largest value is more than this times its least positive one


@dataclass(frozen=True)
class Duel:
    """One solver against another at a value of the axis, paired by seed. A seed gives both the same rotation, and the
    same prompts where they draw them in the same way. Below 0 the first is better; differences between errors that are
    only rounding are even.
    """

    x: Any
    difference: Difference  # Holm's correction is over the values of the axis
    tasks: tuple[str, str]  # on which the two were trained: the same task

    @property
    def mean(self) -> float:
        """The mean difference; infinite where one of the two lost a seed that the other did not."""
        if self.difference.mean is not None:
            return self.difference.mean
        lost = self.difference.lost - self.difference.other_lost
        return math.copysign(math.inf, lost) if lost else 0.0

    @property
    def half_width(self) -> float | None:
        """Half of the difference's own 95 % interval; None where there is none."""
        return self.difference.half_width

    @property
    def verdict(self) -> str:
        """better or worse, or even where the difference is not real."""
        return self.difference.verdict if self.difference.real else "even"


@dataclass(frozen=True)
class Standing:
    """A solver along the whole axis. worst: its largest mean log error, infinite where a seed diverged. area: the mean
    log error over the axis, by trapezoids.
    """

    solver: str
    worst: float
    worst_at: Any
    area: float | None  # None where the axis is no number, values are missing, or a seed diverged

    @property
    def diverged(self) -> bool:
        """Whether any seed diverged, at any value."""
        return math.isinf(self.worst)


@dataclass(frozen=True)
class Crossing:
    """Two neighbouring values of the axis between which the sign of the difference of two solvers changes."""

    low: Duel
    high: Duel

    @property
    def at(self) -> float | None:
        """The value at which the line between the two differences meets 0; None where the axis is not a number."""
        a, b = self.low.x, self.high.x
        if not isinstance(a, int | float) or not isinstance(b, int | float):
            return None
        share = self.low.mean / (self.low.mean - self.high.mean)
        if a > 0 and b > 2 * a:
            return float(math.exp(math.log(a) + share * (math.log(b) - math.log(a))))
        return float(a + share * (b - a))

    @property
    def sure(self) -> bool:
        """Whether the differences on both sides are beyond chance."""
        return "even" not in (self.low.verdict, self.high.verdict)


def duels(line: Along, chart: str, first: str, second: str) -> list[Duel]:
    """Comparisons of two solvers at every value that both have."""
    firsts, seconds = line.points_of(chart, first), line.points_of(chart, second)
    common = [x for x in firsts if x in seconds and firsts[x].losses.keys() & seconds[x].losses.keys()]
    if not common:
        return []
    pairs = joined([_paired(firsts[x], seconds[x]) for x in common])
    return [
        Duel(x, difference_at(pairs, at, 1, second), (firsts[x].task, seconds[x].task)) for at, x in enumerate(common)
    ]


def _paired(first: Point, second: Point) -> Pairs:
    seeds = sorted(first.losses.keys() & second.losses.keys())
    losses = np.array([[max(point.losses[seed], EXACT) for seed in seeds] for point in (first, second)])
    return paired(losses, first.zero if second.zero is None else second.zero, sequential=first.extended)


def crossings(duels: Sequence[Duel]) -> list[Crossing]:
    """The places where the sign of the difference flips between neighbouring values; differences of 0 are skipped."""
    return [
        Crossing(a, b)
        for a, b in pairwise(duel for duel in duels if duel.mean and math.isfinite(duel.mean))
        if a.mean * b.mean < 0
    ]


def standings(line: Along, chart: str) -> list[Standing]:
    """The standing of every solver, over the values that all have; the lowest worst case first."""
    solvers = {point.solver: line.points_of(chart, point.solver) for point in line.points if point.chart == chart}
    shared = set.intersection(*(set(points) for points in solvers.values()))
    if not shared:
        return []
    unsorted = [_standing(solver, {x: points[x] for x in points if x in shared}) for solver, points in solvers.items()]
    return sorted(unsorted, key=lambda standing: (standing.worst, standing.solver))


def _standing(solver: str, points: Mapping[Any, Point]) -> Standing:
    means = {x: math.inf if point.lost else point.mean for x, point in points.items()}
    worst = max(means, key=lambda x: means[x])
    return Standing(solver, means[worst], worst, area(means) if math.isfinite(means[worst]) else None)


def area(means: Mapping[Any, float]) -> float | None:
    """The mean over the axis as charts draw it. Errors that are only rounding count as EXACT."""
    if not all(isinstance(x, int | float) for x in means) or len(means) < 2:
        return None
    xs = sorted(means)
    positions, losses = _drawn(xs), [max(means[x], EXACT) for x in xs]
    parts = [(b - a) * fmean(pair) for (a, b), pair in zip(pairwise(positions), pairwise(losses), strict=True)]
    return math.fsum(parts) / (positions[-1] - positions[0])


def _drawn(xs: Sequence[float]) -> list[float]:
    """The positions of ascending values in a chart: logarithmic on a wide axis, log(1 + x / least) where it holds 0."""
    least = next((x for x in xs if x > 0), math.inf)
    if xs[0] < 0 or xs[-1] <= WIDE * least:
        return [float(x) for x in xs]
    return [math.log(x) if xs[0] else math.log1p(x / least) for x in xs]
