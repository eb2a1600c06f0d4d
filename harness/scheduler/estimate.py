"""What packs will cost: the prior, corrected by the packs that a store has seen; and the time that is left.

Actual over prior is close to log-normal from pack to pack; its median corrects the prediction, its spread gives the
interval.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from ..spec.job import Job
from ..training.cost import Prior, prior, structure
from ..training.pack import Cost, Pack

SPREAD = math.log(3)  # of an actual cost over the prior's, where nothing was measured
LEAST = math.log(1.15)  # of the spread: no two runs are alike
NORMAL = 1.2816  # standard deviations to either side that hold 80 %


@dataclass(frozen=True)
class History:
    """What packs have cost on a device: logarithms of actual over prior, by structure; and the widths that were
    too much for its memory.
    """

    seconds: Mapping[str, list[float]] = field(default_factory=dict)
    memory: Mapping[str, list[float]] = field(default_factory=dict)
    widest: Mapping[str, int] = field(default_factory=dict)
    usual: float = 1.0  # seconds for a second of the prior's, where nothing was measured

    @functools.cached_property
    def _time(self) -> _Shift:
        return _Shift(self.seconds, math.log(self.usual))

    @functools.cached_property
    def _space(self) -> _Shift:
        return _Shift(self.memory)

    @staticmethod
    def of(rows: Iterable[Mapping[str, Any]], widest: Mapping[str, int], usual: float = 1.0) -> History:
        """The history from one row of the jobs table for each pack. widest: the most jobs of a pack, by structure.

        usual: seconds for a second of the prior's, where nothing was measured.
        """
        ratios: tuple[dict[str, list[float]], dict[str, list[float]]] = ({}, {})
        for row in rows:
            for by_structure, actual, expected in zip(
                ratios, ("pack_seconds", "pack_memory"), ("prior_seconds", "prior_memory"), strict=True
            ):
                if row[actual] and row[expected]:
                    by_structure.setdefault(row["structure"], []).append(math.log(row[actual] / row[expected]))
        return History(*ratios, widest, usual)

    def correct(self, job: Job, tests: int = 0) -> tuple[Prior, float]:
        """The prior as corrected by what was seen, and the spread of the logarithm of its seconds."""
        p, name = prior(job, tests), structure(job)
        shift, spread = self._time.logarithm(name)
        time, space = math.exp(shift), math.exp(self._space.logarithm(name)[0])
        return Prior(p.fixed * time, p.each * time, p.bytes_fixed * space, p.bytes_each * space), spread

    def cost(self, pack: Pack) -> Cost:
        """The predicted cost of a pack."""
        p, spread = self.correct(pack.first, len(pack.tests))
        seconds, wide = p.seconds(len(pack.jobs)), math.exp(NORMAL * spread)
        return Cost(seconds, seconds / wide, seconds * wide, p.bytes(len(pack.jobs)), bool(self.seconds))


class _Shift:
    """Where the logarithm of actual over prior should lie for a structure, and how far from there it may."""

    def __init__(self, ratios: Mapping[str, list[float]], usual: float = 0.0) -> None:
        self.ratios, self.usual = ratios, usual
        self.known = [r for values in ratios.values() for r in values]
        if self.known:
            self.middle = median(self.known)
            self.spread = max(LEAST, 1.5 * median(abs(r - self.middle) for r in self.known), SPREAD / len(self.known))
            middles = [(median(values), values) for values in ratios.values() if len(values) > 1]
            around = [abs(r - middle) for middle, values in middles for r in values]
            self.own_spread = max(LEAST, 1.5 * median(around) if around else 0.0)

    def logarithm(self, name: str) -> tuple[float, float]:
        """Median and spread of the logarithm for a structure."""
        if not self.known:
            return self.usual, SPREAD
        if own := self.ratios.get(name):
            return (sum(own) + self.middle) / (len(own) + 1), self.own_spread
        return self.middle, self.spread


@dataclass(frozen=True)
class Estimate:
    """What is left to do: seconds on so many workers, with the bounds of an 80 % interval."""

    seconds: float
    low: float
    high: float
    workers: int
    measured: bool  # whether the store's own history went into it


def estimate(pools: Iterable[tuple[Sequence[Cost], int]]) -> Estimate:
    """Time for packs, taking all predictions to err the same way. pools: of each, what its packs cost, and its number
    of workers.
    """

    def time(costs: Sequence[Cost], workers: int, name: str) -> float:
        seconds: list[float] = [getattr(cost, name) for cost in costs]
        return max(sum(seconds) / max(workers, 1), max(seconds, default=0.0))

    pools = [*pools]
    low, seconds, high = (
        max((time(*pool, name) for pool in pools), default=0.0) for name in ("low", "seconds", "high")
    )
    workers, measured = sum(number for _, number in pools), any(cost.measured for costs, _ in pools for cost in costs)
    return Estimate(seconds, low, high, workers, measured)
