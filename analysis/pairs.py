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
from jaxtyping import Bool, Float, Int

from .sequential import sequence_equivalence_p, sequence_factor, sequence_p
from .statistics import ALPHA, MARGIN, ROUNDING, equivalence, holm, outliers, satterthwaite, t_factor, two_sided

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
    same: Bool[Array, " pairs"]  # whether all differences are 0
    outlier: Bool[Array, " pairs"]  # whether one seed lies far from the others and may decide
    margin: float = MARGIN
    sequential: bool = False  # whether p values and intervals are valid whenever one stops adding seeds

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

    @property
    def half_width(self) -> Float[Array, " pairs"]:
        """Half of the 95 % interval of each difference by itself; nan where there is none."""
        return self._half_width(ALPHA)

    @property
    def together(self) -> Float[Array, " pairs"]:
        """Half of intervals that hold all differences at once, at 95 % (Bonferroni)."""
        return self._half_width(ALPHA / max(1, int((~np.isnan(self.p)).sum())))

    @property
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
        factor = sequence_factor(self.seeds, alpha) if self.sequential else t_factor(self.df, alpha)
        with np.errstate(invalid="ignore"):
            return np.where(self.df > 0, np.where(self.error > 0, factor * self.error, 0.0), np.nan)


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
    k = len(losses)
    i, j = np.triu_indices(k, 1)
    first, second = losses[i], losses[j]
    known = ~(np.isnan(first) | np.isnan(second))
    finite = np.stack([np.where(known & np.isfinite(side), side, -np.inf) for side in (first, second)])
    worst = np.maximum(finite.max((0, 2), initial=-np.inf), -np.inf if zero is None else zero)[:, None]
    worst = np.where(np.isfinite(worst), worst, 0.0)  # where both lost every seed they tie
    with np.errstate(invalid="ignore"):
        D = np.where(np.isinf(first), worst, first) - np.where(np.isinf(second), worst, second)
    D = np.where(known, D, 0.0)
    D[np.abs(D) <= ROUNDING] = 0.0
    seeds = known.sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = D.sum(1) / seeds
        variance = (np.where(known, D - mean[:, None], 0.0) ** 2).sum(1) / (seeds - 1) / seeds
    df = (seeds - 1).astype(float)
    if shared is not None:
        df, variance = satterthwaite(variance, df, *shared), variance + shared[0]
    variance, df = np.where(seeds > 1, variance, np.nan), np.where(seeds > 1, df, 0.0)
    error = np.sqrt(variance)
    lost = np.stack([(known & np.isinf(a) & np.isfinite(b)).sum(1) for a, b in ((first, second), (second, first))])
    if sequential:
        p, equivalence_p = sequence_p(D, known), sequence_equivalence_p(D, known, margin)
        p, equivalence_p = (np.where(df > 0, value, np.nan) for value in (p, equivalence_p))
    else:
        p, equivalence_p = two_sided(mean, error, df), equivalence(mean, error, df, margin)
    barred = ((lost[0] > 0) & (mean <= 0)) | ((lost[1] > 0) & (mean >= 0))  # not better, whatever the other seeds say
    return Pairs(
        k,
        seeds,
        mean,
        error,
        df,
        np.where(barred & ~np.isnan(p), 1.0, p),
        np.where(lost.any(0) & ~np.isnan(p), 1.0, equivalence_p),
        lost,
        (seeds > 0) & (D == 0).all(1),
        _outliers(D, known),
        margin,
        sequential,
    )


def joined(parts: Sequence[Pairs]) -> Pairs:
    """Pairs of several places as one family."""
    one = {f.name: np.concatenate([getattr(part, f.name) for part in parts], -1) for f in fields(Pairs)[1:-2]}
    return Pairs(solvers=0, **one, margin=parts[0].margin, sequential=parts[0].sequential)


def _outliers(D: Float[Array, "pairs seeds"], known: Bool[Array, "pairs seeds"]) -> Bool[Array, " pairs"]:
    found = np.zeros(len(D), dtype=bool)
    patterns, which = np.unique(known, axis=0, return_inverse=True)
    for number, pattern in enumerate(patterns):
        rows = which.ravel() == number
        found[rows] = outliers(D[np.ix_(rows, pattern)])
    return found
