"""What the numbers of a board's solvers at one depth allow to say: ranks, ties, differences in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from .pairs import Pairs
from .rounding import at_least
from .statistics import MARGIN, rank_sets, ties


@dataclass(frozen=True)
class Difference:
    """A solver's log error minus that of another, on common seeds; below 0 it is the better one.

    mean and half_width (of the 95 % interval of this difference alone) are None where there is no interval: fewer than
    two seeds, or a lost one. p: of no difference, by Holm over the whole family.
    """

    than: str
    seeds: int
    mean: float | None
    half_width: float | None
    p: float | None
    real: bool
    equivalent: bool
    at_least: float  # nat that the size of the difference is at least, at 95 % for the whole family; or 0
    within: float | None  # nat that it is at most, likewise
    identical: bool
    lost: int  # seeds that this solver lost and the other did not
    other_lost: int  # the reverse
    outlier: bool  # whether one seed lies far from the others, and may decide
    better: bool  # of the two directions, if real

    @property
    def verdict(self) -> str:
        """identical, better, worse, equivalent, undecided; none where there are fewer than two common seeds."""
        if self.p is None:
            return "none"
        if self.identical and not self.lost and not self.other_lost:
            return "identical"
        if self.real:
            return "better" if self.better else "worse"
        return "equivalent" if self.equivalent else "undecided"

    @property
    def words(self) -> str:
        """The verdict as a phrase: `better by at least 0.3`, `worse, but within 0.01`, `undecided (2 of 5 lost)`."""
        if self.verdict == "none":
            return "no common seed" if not self.seeds else "one seed: no verdict"
        text = self.verdict
        if self.verdict == "equivalent":
            text = f"equivalent within {MARGIN:g}"
        elif self.real and self.equivalent:
            text += f", but within {MARGIN:g}"
        elif self.real and self.at_least:
            text += f" by at least {at_least(self.at_least)}"
        lost = [f"{count} of {self.seeds} lost{whose}" for count, whose in self._lost if count]
        notes = lost + (["one seed lies far from the others"] if self.outlier else [])
        return f"{text} ({', '.join(notes)})" if notes else text

    @property
    def _lost(self) -> tuple[tuple[int, str], tuple[int, str]]:
        return (self.lost, ""), (self.other_lost, " by the other")


@dataclass(frozen=True)
class Ranking:
    """Solvers at one depth, ranked within each class of what they are told; the pairs are of all of them together."""

    solvers: Sequence[str]
    pairs: Pairs
    ranks: dict[str, tuple[int, int]]  # the best and worst rank that each may have
    sizes: dict[str, int]  # the number of solvers in each one's class
    groups: dict[str, str]  # letters of the runs in which no pair differs

    def difference(self, solver: str, than: str) -> Difference:
        """One solver's log error minus another's."""
        i, j = self.solvers.index(solver), self.solvers.index(than)
        return difference_at(self.pairs, self.pairs.index(min(i, j), max(i, j)), 1 if i < j else -1, than)


def difference_at(pairs: Pairs, at: int, sign: int, than: str) -> Difference:
    """The difference at a place of many. sign: -1 for the second solver's minus the first's."""
    tested, lost = not np.isnan(pairs.p[at]), pairs.lost[:, at][::sign]
    whole = tested and not lost.any()
    mean = sign * float(pairs.mean[at])
    return Difference(
        than,
        int(pairs.seeds[at]),
        mean if whole or (pairs.seeds[at] == 1 and not lost.any()) else None,
        _finite(pairs.half_width[at]) if whole else None,
        float(pairs.adjusted[at]) if tested else None,
        bool(pairs.differs[at]),
        bool(pairs.equivalent[at]),
        float(pairs.at_least[at]) if whole and pairs.differs[at] else 0.0,
        _finite(abs(mean) + pairs.together[at]) if whole else None,
        bool(pairs.same[at]),
        int(lost[0]),
        int(lost[1]),
        bool(pairs.outlier[at]),
        mean < 0,
    )


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def ranking(solvers: Sequence[str], classes: Sequence[str], order: Sequence[int], pairs: Pairs) -> Ranking:
    """Rank solvers within their classes. order: their places, the best first; those with one seed have no rank."""
    ranks: dict[str, tuple[int, int]] = {}
    sizes: dict[str, int] = {}
    groups: dict[str, str] = dict.fromkeys(solvers, "")
    better, tested = pairs.better, _tested(pairs)
    for kind in dict.fromkeys(classes):
        members = [i for i in order if classes[i] == kind and tested[i]]
        table = better[np.ix_(members, members)]
        for i, best, worst in zip(members, *rank_sets(table), strict=True):
            ranks[solvers[i]] = int(best), int(worst)
            sizes[solvers[i]] = len(members)
        for number, (first, last) in enumerate(ties(table | table.T)):
            for i in members[first : last + 1]:
                groups[solvers[i]] += letter(number)
    return Ranking(solvers, pairs, ranks, sizes, groups)


def _tested(pairs: Pairs) -> Bool[np.ndarray, " k"]:
    """Whether each solver has a test against any other."""
    i, j = np.triu_indices(pairs.solvers, 1)
    tested = np.zeros(pairs.solvers, dtype=bool)
    known = ~np.isnan(pairs.p)
    tested[i[known]] = tested[j[known]] = True
    return tested


def letter(number: int) -> str:
    """The name of a group of ties: a, b, ..., z, then a1, b1, and so on."""
    return chr(ord("a") + number % 26) + (str(number // 26) if number >= 26 else "")
