"""Tests and intervals that stay valid however often one looks, and whatever one stops for.

For differences D_1 .. D_n with s1 = sum D, s2 = sum D^2 and r = s1^2 / s2, and an effect scale tau,

    log e_tau = -1/2 log(1 + n tau^2) - n/2 log(1 - c r / n)      c = n tau^2 / (1 + n tau^2)

is the log Bayes factor of a normal prior on the effect mean / sd, with the right Haar prior on sd: a martingale where
the mean is 0, whatever the sd (Robbins, 1970; Lai, 1976). e = 0.7 e_1 + 0.3 e_10 has power for large and for very large
effects, and passes 1 / alpha, ever, with probability alpha at most (Ville's inequality). The means for which it is
below form a confidence sequence (see Ramdas, Grunwald, Vovk & Shafer, 2023). It holds for normal differences;
extreme skew strains it as it strains every such rule.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from jaxtyping import Float

SCALES = ((1.0, 0.7), (10.0, 0.3))  # tau, and the weight of it

Array = np.ndarray


def log_e(n: Float[Array, "*any"], s1: Float[Array, "*any"], s2: Float[Array, "*any"]) -> Float[Array, "*any"]:
    """Log of the e value against a mean of 0 of n differences with sum s1 and sum of squares s2; 0 of none."""
    with np.errstate(divide="ignore", invalid="ignore"):
        r = np.where(s2 > 0, np.minimum(s1**2 / s2, n), 0.0)
    parts = [math.log(weight) + _log_e(n, r, tau) for tau, weight in SCALES]
    total: Array = np.logaddexp(*parts)
    return total


def _log_e(n: Array, r: Array, tau: float) -> Array:
    spread = 1 + n * tau**2
    found: Array = -np.log(spread) / 2 - n / 2 * np.log1p(-(1 - 1 / spread) * r / np.maximum(n, 1))
    return found


def sequence_p(
    n: Float[Array, " pairs"], mean: Float[Array, " pairs"], squares: Float[Array, " pairs"]
) -> Float[Array, " pairs"]:
    """P values of a mean of 0 that are valid at any time: one over the e value of n differences.

    squares: the sum of squared deviations from the mean. The largest e value on the way would be valid too, but might
    call different what a later seed has undone, against its own interval, and would depend on the order of seeds.
    """
    p: Array = np.exp(-np.maximum(log_e(n, n * mean, squares + n * mean**2), 0.0))
    return p


def sequence_equivalence_p(
    n: Float[Array, " pairs"], mean: Float[Array, " pairs"], squares: Float[Array, " pairs"], margin: float
) -> Float[Array, " pairs"]:
    """The same of a mean outside +-margin: both ends of the margin are refuted, while the mean lies between them."""
    ends = [sequence_p(n, mean - end, squares) for end in (-margin, margin)]
    p: Array = np.where((np.abs(mean) < margin) & (n > 0), np.maximum(*ends), 1.0)
    return p


def sequence_factor(n: Float[Array, " pairs"], alpha: float) -> Float[Array, " pairs"]:
    """Half of a confidence sequence after n differences, in standard errors of their mean; inf where n is too small."""
    factors = {value: _factor(int(value), alpha) for value in np.unique(n[n > 1])}
    return np.array([factors.get(value, math.inf) for value in n])


@functools.lru_cache(maxsize=4096)
def _factor(n: int, alpha: float) -> float:
    """The means that e values do not refute: those with r below its value at 1 / alpha, found by bisection."""

    def refuted(r: float) -> bool:
        s2 = np.array(1.0)
        return bool(log_e(np.array(float(n)), np.sqrt(np.array(r)), s2) > math.log(1 / alpha))

    low, high = 0.0, float(n)
    if not refuted(high):
        return math.inf
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if refuted(middle) else (middle, high)
    return math.sqrt(low * (n - 1) / (n - low))


def seeds_needed(effect: float, pairs: int, alpha: float) -> int:
    """About how many seeds separate a pair whose mean difference is `effect` standard deviations, among so many."""
    return math.ceil(2 * (math.log(max(pairs, 1) / alpha) + 2) / math.log1p(effect**2)) if effect > 1e-4 else 1 << 30
