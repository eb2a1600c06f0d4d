"""All pairs of a board's solvers at one depth: who is better, by how much, how surely.

Two solvers are compared on the seeds that both have an outcome for, and see the same task and the same test prompts
there: D = L_i - L_j, with Student's t, and Holm's correction over all pairs. No bootstrap over seeds and blocks:
with 5 seeds its 95 % intervals cover 81 %.

A seed that was lost, because its training diverged or its job failed, counts as the worst loss that the two have, or
as the error of predicting 0 where that is larger; and who lost a seed that the other did not is never the better one.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from .sequential import sequence_equivalence_p, sequence_factor, sequence_p
from .statistics import ALPHA, MARGIN, ROUNDING, equivalence, grubbs, holm, satterthwaite, t_factor, two_sided

Array = np.ndarray


@dataclass(frozen=True)
class Pairs:
    """Pairs i < j of k solvers, in the order of `numpy.triu_indices`; a negative difference means that i is better."""

    solvers: int  # k; 0 where these are pairs of several places
    seeds: Int[Array, " pairs"]  # that both have an outcome for
    mean: Float[Array, " pairs"]  # of the differences, in nat
    error: Float[Array, " pairs"]  # its standard error
    df: Float[Array, " pairs"]
    p: Float[Array, " pairs"]  # of no difference; nan where fewer than two seeds are common
    equivalence_p: Float[Array, " pairs"]  # of a difference outside the margin
    lost: Int[Array, "2 pairs"]  # seeds that i lost and j did not; that j lost and i did not
    barred: Bool[Array, " pairs"]  # whether the one with the lower mean lost a seed that the other did not
    same: Bool[Array, " pairs"]  # whether all differences are 0, of seeds that neither lost
    outlier: Bool[Array, " pairs"]  # whether one seed lies far from the others and may decide
    sequential: Bool[Array, " pairs"]  # whether p and intervals are valid whenever one stops adding seeds

    @functools.cached_property
    def adjusted(self) -> Float[Array, " pairs"]:
        """P values of no difference, by Holm, over all pairs."""
        return holm(self.p)

    @functools.cached_property
    def differs(self) -> Bool[Array, " pairs"]:
        """Whether a difference is real."""
        return self.adjusted <= ALPHA

    @functools.cached_property
    def equivalent(self) -> Bool[Array, " pairs"]:
        """Whether a difference is within the margin, over all pairs."""
        return self.equivalence_adjusted <= ALPHA

    @functools.cached_property
    def equivalence_adjusted(self) -> Float[Array, " pairs"]:
        """P values of a difference outside the margin, by Holm, over all pairs."""
        return holm(self.equivalence_p)

    @functools.cached_property
    def half_width(self) -> Float[Array, " pairs"]:
        """Half of the 95 % interval of each difference by itself; nan where there is none."""
        return self._half_width(ALPHA)

    @functools.cached_property
    def together(self) -> Float[Array, " pairs"]:
        """Half of intervals that hold all differences at once, at 95 % (Bonferroni)."""
        return self._half_width(ALPHA / max(1, int((~np.isnan(self.p)).sum())))

    @functools.cached_property
    def at_least(self) -> Float[Array, " pairs"]:
        """The size that each difference has at least, all at once, at 95 %; 0 where nothing can be said."""
        bound: Array = np.maximum(np.nan_to_num(np.abs(self.mean) - self.together), 0)
        return bound

    @functools.cached_property
    def better(self) -> Bool[Array, "k k"]:
        """By [i, j]: whether i is better than j, and the difference is real."""
        i, j = np.triu_indices(self.solvers, 1)
        table = np.zeros((self.solvers, self.solvers), dtype=bool)
        table[i, j] = self.differs & (self.mean < 0)
        table[j, i] = self.differs & (self.mean > 0)
        return table

    def index(self, i: int, j: int) -> int:
        """The place of the pair i < j."""
        return i * (2 * self.solvers - i - 1) // 2 + j - i - 1

    def _half_width(self, alpha: float) -> Float[Array, " pairs"]:
        factor = t_factor(self.df, alpha)
        factor[self.sequential] = sequence_factor(self.seeds[self.sequential], alpha)
        with np.errstate(invalid="ignore"):
            width = np.where(np.isinf(factor), np.inf, factor * self.error)  # even where all differences are equal
            return np.where(self.df > 0, width, np.nan)


def paired(
    losses: Float[Array, "k seeds"],
    zero: float | None = None,
    shared: tuple[Float[Array, " pairs"], int] | None = None,
    margin: float = MARGIN,
    sequential: bool = False,
) -> Pairs:
    """All pairs of k solvers. losses: inf where a seed was lost, nan where there is no outcome yet. zero: the log error
    of predicting 0. shared: the variances that test prompts which all seeds share add to mean differences, and their
    degrees of freedom. sequential: whether seeds were added until something was decided.
    """
    tops = np.where(np.isfinite(losses), losses, -np.inf).max(1, initial=-np.inf if zero is None else zero)
    tops = np.where(np.isfinite(tops), tops, 0.0)  # who lost every seed, where nothing else is known
    sums = _sums(losses, tops)
    seeds, mean, df = sums.seeds, sums.mean, (sums.seeds - 1).astype(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = sums.squares / (seeds - 1) / seeds
    if shared is not None:
        df, variance = satterthwaite(variance, df, *shared), variance + shared[0]
    same = (sums.met > 0) & (sums.largest == 0) & (mean == 0)
    variance = np.where(seeds > 1, np.where(same, 0.0, variance), np.nan)
    df = np.where(seeds > 1, df, 0.0)
    error, lost = np.sqrt(variance), sums.lost
    if sequential:
        found = sums.seeds, np.nan_to_num(mean), sums.squares
        p, equivalence_p = sequence_p(*found), sequence_equivalence_p(*found, margin)
        p, equivalence_p = np.where(df > 0, p, np.nan), np.where(df > 0, equivalence_p, np.nan)
    else:
        p, equivalence_p = two_sided(mean, error, df), equivalence(mean, error, df, margin)
    barred = ((lost[0] > 0) & (mean <= 0)) | ((lost[1] > 0) & (mean >= 0))  # not better, whatever the other seeds say
    return Pairs(
        len(losses),
        seeds,
        mean,
        error,
        df,
        np.where(barred & ~np.isnan(p), 1.0, p),
        np.where((lost.any(0) | (sums.met == 0)) & ~np.isnan(p), 1.0, equivalence_p),
        lost,
        barred,
        same,
        grubbs(sums.largest, np.sqrt(sums.squares / np.maximum(seeds - 1, 1)), seeds),
        np.full(len(seeds), sequential),
    )


@dataclass(frozen=True)
class _Sums:
    """What is needed of the differences of pairs."""

    seeds: Int[Array, " pairs"]
    mean: Float[Array, " pairs"]
    squares: Float[Array, " pairs"]  # the sum of squared deviations from the mean
    largest: Float[Array, " pairs"]  # of those deviations
    met: Int[Array, " pairs"]  # seeds that neither lost
    lost: Int[Array, "2 pairs"]


def _sums(losses: Float[Array, "k seeds"], tops: Float[Array, " k"]) -> _Sums:
    """The sums of all pairs; a lost seed counts as the larger of the two solvers' tops."""
    lost, met = (np.packbits(marks, axis=1) for marks in (np.isinf(losses), np.isfinite(losses)))

    def common(mine: UInt8[Array, "k bytes"], theirs: UInt8[Array, "k bytes"]) -> Int[Array, " pairs"]:
        """Of each pair, the number of seeds that i has in `mine` and j in `theirs`."""
        counts = [np.bitwise_count(mine[row] & theirs[row + 1 :]).sum(1, dtype=int) for row in range(len(losses))]
        return np.concatenate(counts)

    moments = [
        _moments(losses[row], losses[row + 1 :], np.maximum(tops[row], tops[row + 1 :]))
        for row in range(len(losses) - 1)
    ]
    mean, squares, largest = np.concatenate(moments, -1) if moments else np.empty((3, 0))
    ended, alone = lost | met, np.stack([common(lost, met), common(met, lost)])
    return _Sums(common(ended, ended), mean, squares, largest, common(met, met), alone)


def _moments(
    one: Float[Array, " seeds"], others: Float[Array, "pairs seeds"], worst: Float[Array, " pairs"]
) -> Float[Array, "3 pairs"]:
    """Of the differences of one solver to others: their means, the sums of their squared deviations, and the largest of
    those. So many numbers stay in the cache, and each is touched six times. worst: what a lost seed counts as.
    """
    with np.errstate(invalid="ignore"):
        D: Array = one - others
        sums = D.sum(1)
    mean = sums / max(D.shape[1], 1)
    if not np.isfinite(sums).all():  # of a seed that one of the two lost, or has no outcome for
        level = np.broadcast_to(worst[:, None], others.shape)
        D = np.where(np.isinf(one), level, one) - np.where(np.isinf(others), level, others)
        known = ~np.isnan(D)
        mean = np.where(known, D, 0.0).sum(1) / np.maximum(known.sum(1), 1)
        D = np.where(known, D, mean[:, None])
    low, high = D.min(1, initial=np.inf), D.max(1, initial=-np.inf)
    same = np.maximum(high, -low) <= ROUNDING
    D -= mean[:, None]
    found = np.stack([mean, np.einsum("ps,ps->p", D, D), np.maximum(high - mean, mean - low)])
    return np.where(same, 0.0, found)


def joined(parts: Sequence[Pairs]) -> Pairs:
    """Pairs of several places as one family."""
    one = {f.name: np.concatenate([getattr(part, f.name) for part in parts], -1) for f in fields(Pairs)[1:]}
    return Pairs(solvers=0, **one)
