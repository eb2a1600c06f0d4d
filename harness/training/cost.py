"""What a pack will cost: a prior from its structure, corrected by the packs that a store has seen.

The prior is seconds on one core of the machine it was fitted on (2026, AVX-512, 3 GHz) and bytes at the peak. Actual
over prior is close to log-normal from pack to pack; its median corrects the prediction, its spread gives the interval.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from ..compiler.lower import STRAIGHT
from ..compiler.select import PAYS
from ..spec.job import Job
from ..spec.labels import digest
from .closed_form import batches
from .pack import Cost, Pack

SPREAD = math.log(3)  # of an actual cost over the prior's, where nothing was measured
LEAST = math.log(1.15)  # of the spread: no two runs are alike
USUAL = 4  # cycles until a plateau
NORMAL = 1.2816  # standard deviations to either side that hold 80 %


@dataclass(frozen=True)
class Prior:
    """Seconds and bytes: what a pack costs whatever its width, and what each job adds."""

    fixed: float
    each: float
    bytes_fixed: float
    bytes_each: float

    def seconds(self, jobs: int) -> float:
        """Of a pack."""
        return self.fixed + jobs * self.each

    def bytes(self, jobs: int) -> float:
        """Of a pack."""
        return self.bytes_fixed + jobs * self.bytes_each


def prior(job: Job, tests: int = 0) -> Prior:
    """What a pack of such jobs should cost, tested on so many further tasks."""
    d, n, depth, protocol = job.task.d, job.task.n, job.solver.depth, job.protocol
    through_x = protocol.draw == "examples" or job.solver.on_tokens
    variates = d * n + 2 * d if through_x else d * (d / 2 + 2.5)
    draw = 2e-9 * variates + 2e-10 * (d * d * n if through_x else d**3)
    layer = d * d * (1 if not job.solver.on_tokens else n)
    members, compiled = 0, 0.0
    fixed, each = 0.05, 0.0
    if job.solver.trains:
        trained, drawn = _steps(job)
        members = len(job.trials)
        met = drawn * protocol.batch
        as_written = met < PAYS
        compiled += 0.0 if as_written else _compiling(43 * depth * layer)
        rate = 3e-8 if as_written else 2e-10
        each += trained * protocol.batch * rate * depth * layer
        each += met * (draw * (8 if as_written else 1) if protocol.renew else 0.0)
        fixed += drawn * depth * 2e-4 if as_written else 0.0
    met_once = [(protocol.test_prompts, 1 + tests, depth * layer)]
    if job.solver.family == "bound":
        met_once.append((math.prod(batches(d)), 1, depth * d * (d + depth)))
    for count, times, work in met_once:
        as_written = count < PAYS
        compiled += 0.0 if as_written else _compiling(10 * work)
        each += count * times * (draw * (8 if as_written else 1) + (2e-8 if as_written else 1e-9) * work)
    each += (1 + tests) * protocol.test_prompts * (depth + 1) * 3e-8  # quantiles
    held = 8 * protocol.test_prompts * (depth + 1) * 2.0
    if job.solver.trains:
        at_once = protocol.validation_prompts if members > 1 else protocol.batch
        held += 4 * at_once * members * layer * (2 + depth)
    return Prior(fixed + compiled, each, 3e7, held)


def _steps(job: Job) -> tuple[int, int]:
    """Training steps of all trials together, and of the longest; where a plateau ends them, of USUAL cycles."""
    protocol, trials, trained, begin = job.protocol, len(job.trials), 0, 0
    looks = protocol.looks if protocol.plateau is None else protocol.looks[:USUAL]
    for look in looks:
        trained += trials * (look - begin)
        begin = look
        trials = -(-trials // protocol.halving) if protocol.halving else trials
    return trained, begin


def _compiling(lines: float) -> float:
    """Seconds of the C++ compiler: for a straight line of so many, or for loops, whose length hardly varies."""
    return 0.6 + 6e-4 * lines if lines < STRAIGHT else 3.0


def structure(job: Job) -> str:
    """A short name of what jobs of one pack share."""
    return digest(job.structure)


@dataclass(frozen=True)
class History:
    """What packs have cost on a device, over the prior, in logarithms, by structure; and widths that were too much."""

    seconds: Mapping[str, list[float]] = field(default_factory=dict)
    memory: Mapping[str, list[float]] = field(default_factory=dict)
    widest: Mapping[str, int] = field(default_factory=dict)

    @functools.cached_property
    def _time(self) -> _Shift:
        return _Shift(self.seconds)

    @functools.cached_property
    def _space(self) -> _Shift:
        return _Shift(self.memory)

    @staticmethod
    def of(rows: Iterable[Mapping[str, Any]], widest: Mapping[str, int]) -> History:
        """From one row of the jobs table for each pack."""
        found: tuple[dict[str, list[float]], dict[str, list[float]]] = ({}, {})
        for row in rows:
            for kept, actual, expected in zip(
                found, ("pack_seconds", "pack_memory"), ("prior_seconds", "prior_memory"), strict=True
            ):
                if row[actual] and row[expected]:
                    kept.setdefault(row["structure"], []).append(math.log(row[actual] / row[expected]))
        return History(*found, widest)

    def correct(self, job: Job, tests: int = 0) -> tuple[Prior, float]:
        """The prior as corrected by what was seen, and the spread of the logarithm of its seconds."""
        p, name = prior(job, tests), structure(job)
        shift, spread = self._time.of(name)
        time, space = math.exp(shift), math.exp(self._space.of(name)[0])
        return Prior(p.fixed * time, p.each * time, p.bytes_fixed * space, p.bytes_each * space), spread

    def cost(self, pack: Pack) -> Cost:
        """Of a pack."""
        p, spread = self.correct(pack.first, len(pack.tests))
        seconds, wide = p.seconds(len(pack.jobs)), math.exp(NORMAL * spread)
        return Cost(seconds, seconds / wide, seconds * wide, p.bytes(len(pack.jobs)), bool(self.seconds))


class _Shift:
    """Where the logarithm of actual over prior should lie for a structure, and how far from there it may."""

    def __init__(self, ratios: Mapping[str, list[float]]) -> None:
        self.ratios = ratios
        self.known = [r for found in ratios.values() for r in found]
        if self.known:
            self.middle = median(self.known)
            self.spread = max(LEAST, 1.5 * median(abs(r - self.middle) for r in self.known), SPREAD / len(self.known))
            middles = [(median(found), found) for found in ratios.values() if len(found) > 1]
            around = [abs(r - middle) for middle, found in middles for r in found]
            self.own_spread = max(LEAST, 1.5 * median(around) if around else 0.0)

    def of(self, name: str) -> tuple[float, float]:
        if not self.known:
            return 0.0, SPREAD
        if own := self.ratios.get(name):
            return (sum(own) + self.middle) / (len(own) + 1), self.own_spread
        return self.middle, self.spread
