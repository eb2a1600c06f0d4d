"""Intervals, tests and corrections, on arrays. Losses are logarithms, so that differences are ratios of errors."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import stdtr, stdtrit

from .sequential import sequence_factor

ALPHA = 0.05  # error rate of a whole family of statements
MARGIN = 0.01  # nat; differences within it are negligible: a percent of the error
ROUNDING = 1e-9  # nat; two losses that differ by less are the same number


@dataclass(frozen=True)
class Sample:
    """What is needed of n values: their mean, the sum of their squared deviations from it, the largest deviation."""

    n: int
    mean: float
    squares: float
    largest: float

    @classmethod
    def of(cls, values: Float[np.ndarray, " n"]) -> Sample:
        """The sample of one value or more."""
        mean = values.mean()
        gaps = values - mean
        return cls(len(values), float(mean), float((gaps**2).sum()), float(np.abs(gaps).max()))

    @property
    def variance(self) -> float:
        """Of the mean; nan for one value."""
        return self.squares / (self.n - 1) / self.n if self.n > 1 else math.nan

    def half_width(self, sequential: bool = False) -> float | None:
        """Of the 95 % interval of the mean, by Student's t; None for fewer than two values, or where it is unbounded.

        sequential: of a confidence sequence instead, which holds whatever one stopped at.
        """
        if self.n < 2:
            return None
        factor = sequence_factor(np.array([self.n]), ALPHA)[0] if sequential else stdtrit(self.n - 1, 1 - ALPHA / 2)
        return float(factor) * math.sqrt(self.variance) if math.isfinite(factor) else None

    @property
    def tenth(self) -> float | None:
        """A tenth of the standard deviation, which the paper draws as a band; None for fewer than two values."""
        return math.sqrt(self.squares / self.n) / 10 if self.n > 1 else None

    @property
    def outlier(self) -> bool:
        """Whether one value lies further from the others than normal ones do: it may decide their mean."""
        spread = math.sqrt(self.squares / max(self.n - 1, 1))
        return bool(grubbs(np.array(self.largest), np.array(spread), np.array(self.n)))


def t_factor(df: Float[np.ndarray, "*pairs"], alpha: float) -> Float[np.ndarray, "*pairs"]:
    """Half of Student's t interval in standard errors; nan where there are no degrees of freedom."""
    factor: np.ndarray = np.where(df > 0, stdtrit(np.maximum(df, 1), 1 - alpha / 2), np.nan)
    return factor


def two_sided(
    mean: Float[np.ndarray, "*pairs"], error: Float[np.ndarray, "*pairs"], df: Float[np.ndarray, "*pairs"]
) -> Float[np.ndarray, "*pairs"]:
    """P values of Student's t test of a mean of 0, from means and their standard errors. Means that are 0 up to
    rounding have 1; other means without any spread have 0; nan where there are no degrees of freedom.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * stdtr(df, -np.abs(mean) / error)
    p = np.where((error == 0) & (df > 0), 0.0, p)
    return np.where((np.abs(mean) <= ROUNDING) & (df > 0), 1.0, p)


def equivalence(
    mean: Float[np.ndarray, "*pairs"],
    error: Float[np.ndarray, "*pairs"],
    df: Float[np.ndarray, "*pairs"],
    margin: float = MARGIN,
) -> Float[np.ndarray, "*pairs"]:
    """P values of two one-sided t tests of a mean outside +-margin (Schuirmann, 1987)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        p = stdtr(df, (np.abs(mean) - margin) / error)
    found: np.ndarray = np.where((error == 0) & (df > 0), (np.abs(mean) > margin).astype(float), p)
    return found


def holm(p: Float[np.ndarray, " tests"]) -> Float[np.ndarray, " tests"]:
    """P values of a family of tests, adjusted so that one at most `alpha` holds at an error rate of `alpha` for the
    whole family, whatever depends on what (Holm, 1979). Tests with nan do not belong to the family.
    """
    adjusted = np.full(p.shape, np.nan)
    real = np.flatnonzero(~np.isnan(p))
    order = real[np.argsort(p[real], kind="stable")]
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)), 1)
    return adjusted


def rank_sets(better: Bool[np.ndarray, "k k"]) -> tuple[Int[np.ndarray, " k"], Int[np.ndarray, " k"]]:
    """The best and the worst rank that each of k solvers may have, 1 the best: one more than are significantly better
    than it, and k less those it is significantly better than. If the differences hold at an error rate of alpha
    together, these sets contain all true ranks at that rate (Mogstad, Romano, Shaikh & Wilhelm, 2024).

    better[i, j]: whether i is significantly better than j.
    """
    return 1 + better.sum(0), len(better) - better.sum(1)


def ties(differs: Bool[np.ndarray, "k k"]) -> list[tuple[int, int]]:
    """The maximal runs, two solvers or more, of a ranking in which no pair differs, as (first, last). differs: in the
    order of the ranking. Runs overlap: that two solvers tie with a third does not make them tie.
    """
    runs: list[tuple[int, int]] = []
    for first in range(len(differs)):
        last = first
        while last + 1 < len(differs) and not differs[first : last + 1, last + 1].any():
            last += 1
        if last > first and not (runs and runs[-1][1] >= last):
            runs.append((first, last))
    return runs


def grubbs(
    largest: Float[np.ndarray, "*rows"],
    spread: Float[np.ndarray, "*rows"],
    n: Int[np.ndarray, "*rows"],
    level: float = 0.01,
) -> Bool[np.ndarray, "*rows"]:
    """Whether the largest deviation from the mean of n values is more than chance allows of normal ones with this
    standard deviation (Grubbs, 1969). Never for fewer than four values.
    """
    many = np.maximum(n, 4)
    t2 = stdtrit(many - 2, 1 - level / (2 * many)) ** 2
    limit = (many - 1) / np.sqrt(many) * np.sqrt(t2 / (many - 2 + t2))
    found: np.ndarray = (n > 3) & (largest > limit * spread) & (largest > ROUNDING)
    return found


def satterthwaite(
    first: Float[np.ndarray, "*pairs"],
    df_first: Float[np.ndarray, "*pairs"],
    second: Float[np.ndarray, "*pairs"],
    df_second: float,
) -> Float[np.ndarray, "*pairs"]:
    """The degrees of freedom of a sum of two variances (Satterthwaite, 1946); those of the first where both are 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        df = (first + second) ** 2 / (first**2 / df_first + second**2 / df_second)
    return np.where((second == 0) | np.isnan(df), df_first, df)
