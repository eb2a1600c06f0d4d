"""Which pairs of a sweep's solvers are separated or equivalent, and which seeds would decide the others."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float

from .losses import Losses, Outcomes
from .matrix import by_unit, cells, zero
from .pairs import Pairs, joined, paired
from .published import shared
from .results import Tables
from .sequential import seeds_needed
from .statistics import ALPHA, MARGIN

Array = np.ndarray
Place = tuple[str, str, str, int]  # task, test, protocol, depth
FASTEST, LEAST = 1.5, 2  # seeds grow by this factor at most, and by this number at least


@dataclass(frozen=True)
class Contest:
    """Solvers at one depth of a board, and their losses by seed."""

    place: Place
    solvers: Sequence[str]
    losses: Float[Array, "k seeds"]
    zero: float | None

    @property
    def seeds(self) -> Array:
        """The number of seeds that each solver has an outcome for."""
        count: Array = (~np.isnan(self.losses)).sum(1)
        return count


def contests(tables: Tables, found: Outcomes, depths: Sequence[int], test: str | None) -> Iterator[Contest]:
    """The contests of a sweep's outcomes, on training tasks unless `test` names another; not where all seeds share
    their prompts, of which more seeds say nothing. depths: all where empty.
    """
    groups: dict[Place, list[Losses]] = {}
    for one in found.losses:
        rival = one.family in ("classical", "learned") and not np.isnan(one.values).all()
        chosen = one.test == (test or one.task) and (not depths or one.depth in depths)
        if rival and chosen and not shared(one.protocol):
            groups.setdefault((one.task, one.test, one.protocol, one.depth), []).append(one)
    for place, losses in groups.items():
        if len(losses) > 1:
            yield Contest(
                place, [one.solver for one in losses], by_unit(cells(losses), draws=False), zero(tables, losses)
            )


@dataclass(frozen=True)
class Standing:
    """The pairs of all contests as one family, and which are decided: with probability alpha at most any pair of equals
    is called separated, and likewise any pair beyond the margin equivalent.
    """

    contests: Sequence[Contest]
    alpha: float = ALPHA
    margin: float = MARGIN
    pairs: Pairs = field(init=False)

    def __post_init__(self) -> None:
        each = [paired(one.losses, one.zero, margin=self.margin, sequential=True) for one in self.contests]
        object.__setattr__(self, "pairs", joined(each))

    @property
    def separated(self) -> Bool[Array, " pairs"]:
        """Pairs of which one is better."""
        found: Array = self.pairs.adjusted <= self.alpha
        return found

    @property
    def equivalent(self) -> Bool[Array, " pairs"]:
        """Pairs that are not separated, and whose difference is within the margin."""
        found: Array = (self.pairs.equivalence_adjusted <= self.alpha) & ~self.separated
        return found

    @property
    def undecided(self) -> Bool[Array, " pairs"]:
        """Pairs of which neither can be said yet."""
        found: Array = ~(self.separated | self.equivalent)
        return found

    @property
    def forecast(self) -> list[int]:
        """About how many seeds decide each pair, judged by what its seeds say so far: a guess where they are few."""
        pairs, many = self.pairs, len(self.pairs.seeds)
        spread = pairs.error * np.sqrt(np.maximum(pairs.seeds, 1))
        with np.errstate(divide="ignore", invalid="ignore"):
            apart, near = np.abs(pairs.mean) / spread, (self.margin - np.abs(pairs.mean)) / spread
        effects = np.nan_to_num(np.fmax(apart, near), nan=0.0, posinf=1e9)
        return [seeds_needed(float(effect), many, self.alpha) for effect in effects]

    def wanted(self, most: int) -> Mapping[tuple[Place, str], int]:
        """By place and solver: the number of seeds that it is to have next, where a pair of it is undecided that more
        seeds that both have may decide.
        """
        forecast, undecided, at = self.forecast, self.undecided & ~self.pairs.barred, 0
        found: dict[tuple[Place, str], int] = {}
        for contest in self.contests:
            i, j = np.triu_indices(len(contest.solvers), 1)
            for first, second in zip(i.tolist(), j.tolist(), strict=True):
                if undecided[at]:
                    target = _next(int(self.pairs.seeds[at]), forecast[at], most)
                    for k in (first, second):
                        key = contest.place, contest.solvers[k]
                        if target > contest.seeds[k]:
                            found[key] = max(found.get(key, 0), target)
                at += 1
        return found

    def named(self, which: Bool[Array, " pairs"]) -> list[str]:
        """Pairs in words: `a and b at 4`."""
        names: list[str] = []
        for one in self.contests:
            i, j = np.triu_indices(len(one.solvers), 1)
            names += [
                f"{one.solvers[a]} and {one.solvers[b]} at {one.place[3]}"
                for a, b in zip(i.tolist(), j.tolist(), strict=True)
            ]
        return [name for name, chosen in zip(names, which, strict=True) if chosen]


def _next(have: int, forecast: int, most: int) -> int:
    """The number of seeds to go on with: what the forecast asks, in steps that leave room for it to be wrong."""
    return min(max(have + LEAST, min(forecast, math.ceil(FASTEST * have))), most) if have < most else have
