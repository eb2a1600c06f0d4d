"""How often what boards and `extend` say is false, and how often what is true is found: simulations with a seed.

    python -m tests.simulations [--sweeps 1000]

prints a table. Losses of solvers at a seed are a part that the seed gives all of them, and a part of their own; "pairs
of equals" are four pairs, equal within and far apart between, in which a wrong rule shows that eight equals would hide.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lfombench.analysis.pairs import paired
from lfombench.analysis.separation import Contest, Standing
from lfombench.analysis.statistics import MARGIN, rank_sets

CORRELATION = 0.9
MOST = 64
EQUALS, PAIRS = np.zeros(8), np.repeat(np.arange(4) * 5.0, 2)


def losses(generator: np.random.Generator, means: np.ndarray, seeds: int, spread: float = 1.0) -> np.ndarray:
    """Normal losses, k seeds."""
    common, own = generator.normal(size=(1, seeds)), generator.normal(size=(len(means), seeds))
    return means[:, None] + spread * (np.sqrt(CORRELATION) * common + np.sqrt(1 - CORRELATION) * own)


def coverage(generator: np.random.Generator, sweeps: int, seeds: int) -> float:
    """How often the interval of a difference holds it."""
    found = [paired(losses(generator, np.array([0.0, 1.0]), seeds)) for _ in range(sweeps)]
    return float(np.mean([abs(one.mean[0] + 1) <= one.half_width[0] for one in found]))


def power(generator: np.random.Generator, sweeps: int) -> float:
    """How often a gap of one standard deviation is found with five seeds."""
    found = [paired(losses(generator, np.array([0.0, 1.0]), 5)) for _ in range(sweeps)]
    return float(np.mean([one.better[0, 1] for one in found]))


def ranks_covered(generator: np.random.Generator, sweeps: int, means: np.ndarray) -> float:
    """How often the rank sets of all solvers hold all their true ranks."""
    best = 1 + (means[None] < means[:, None]).sum(1)
    worst = len(means) - (means[None] > means[:, None]).sum(1)
    held = 0
    for _ in range(sweeps):
        low, high = rank_sets(paired(losses(generator, means, 5)).better)
        held += bool(((low <= best) & (high >= worst)).all())
    return held / sweeps


def false_after_failures(generator: np.random.Generator, sweeps: int, seeds: int, rate: float) -> float:
    """How often equals are separated that lose seeds at the same rate."""
    false = 0
    for _ in range(sweeps):
        each = losses(generator, np.zeros(2), seeds)
        each[generator.random(each.shape) < rate] = np.inf
        false += bool(paired(each, zero=3.0).differs.any())
    return false / sweeps


def extended(every: np.ndarray, margin: float = MARGIN) -> tuple[Standing, np.ndarray]:
    """What `extend` comes to, and the seeds of each solver, where all losses are `every`: it begins with five."""
    have = np.full(every.shape, np.nan)
    have[:, :5] = every[:, :5]
    names = [str(i) for i in range(len(every))]
    while True:
        contest = Contest(("", "", "", 1), names, have.copy(), None)
        standing = Standing([contest], margin=margin)
        wanted = standing.wanted(MOST)
        if not wanted:
            return standing, contest.seeds
        for (_, name), seeds in wanted.items():
            have[int(name), :seeds] = every[int(name), :seeds]


Wrong = Callable[[Standing], np.ndarray]


def extend_errs(
    generator: np.random.Generator, sweeps: int, means: np.ndarray, wrong: Wrong, spread: float = 1.0
) -> float:
    """How often `extend` says something false of any pair that is (nearly) equal."""
    i, j = np.triu_indices(len(means), 1)
    near = abs(means[i] - means[j]) < 1
    false = sum(bool(wrong(extended(losses(generator, means, MOST, spread))[0])[near].any()) for _ in range(sweeps))
    return false / sweeps


def naive_errs(generator: np.random.Generator, sweeps: int) -> float:
    """The same for t tests at every look, with Holm's correction: what `extend` is there to avoid."""
    false, equal = 0, PAIRS[np.triu_indices(8, 1)[0]] == PAIRS[np.triu_indices(8, 1)[1]]
    for _ in range(sweeps):
        every = losses(generator, PAIRS, MOST)
        false += any(paired(every[:, :n]).differs[equal].any() for n in (5, 7, 10, 14, 20, 28, 40, 56, 64))
    return false / sweeps


def skewed_errs(generator: np.random.Generator, sweeps: int) -> float:
    """How often `extend` separates pairs of equal means where one of each has lognormal noise, four times as much."""
    false, i, j = 0, *np.triu_indices(8, 1)
    for _ in range(sweeps):
        noise = np.exp(generator.normal(size=(8, MOST))) - np.exp(0.5)
        every = PAIRS[:, None] + noise * np.where(np.arange(8) % 2, 4.0, 1.0)[:, None]
        false += bool(extended(every)[0].separated[PAIRS[i] == PAIRS[j]].any())
    return false / sweeps


def ladder(generator: np.random.Generator, sweeps: int, step: float) -> tuple[float, float]:
    """Of eight solvers that are `step` standard deviations of a difference apart: the part of pairs that `extend`
    separates, and the mean number of seeds.
    """
    means = np.arange(8) * step * np.sqrt(2 * (1 - CORRELATION))
    found = [extended(losses(generator, means, MOST)) for _ in range(sweeps)]
    return float(np.mean([one.separated.mean() for one, _ in found])), float(np.mean([n.mean() for _, n in found]))


@dataclass(frozen=True)
class Claim:
    """A rate that is simulated, and the range that it is to be in."""

    what: str
    low: float
    high: float
    rate: Callable[[np.random.Generator, int], float]


def _separated(standing: Standing) -> np.ndarray:
    return standing.separated


def _equivalent(standing: Standing) -> np.ndarray:
    return standing.equivalent


NEAR = PAIRS + np.tile([0.0, 1.01 * MARGIN], 4)  # just outside the margin

CLAIMS = (
    Claim("interval of a difference holds it, 3 seeds", 0.93, 0.97, lambda g, m: coverage(g, m, 3)),
    Claim("interval of a difference holds it, 5 seeds", 0.93, 0.97, lambda g, m: coverage(g, m, 5)),
    Claim("interval of a difference holds it, 10 seeds", 0.93, 0.97, lambda g, m: coverage(g, m, 10)),
    Claim("a gap of one standard deviation is found with 5 seeds", 0.93, 1.0, power),
    Claim("rank sets hold all ranks, 8 equals", 0.94, 1.0, lambda g, m: ranks_covered(g, m, EQUALS)),
    Claim("rank sets hold all ranks, 4 pairs of equals", 0.94, 1.0, lambda g, m: ranks_covered(g, m, PAIRS)),
    Claim("equals that lose 1 seed in 20 are separated", 0.0, 0.05, lambda g, m: false_after_failures(g, m, 5, 0.05)),
    Claim("equals that lose 1 seed in 5 are separated", 0.0, 0.05, lambda g, m: false_after_failures(g, m, 5, 0.2)),
    Claim("equals that lose 1 seed in 2 are separated", 0.0, 0.05, lambda g, m: false_after_failures(g, m, 5, 0.5)),
    Claim("extend separates any of 8 equals", 0.0, 0.05, lambda g, m: extend_errs(g, m, EQUALS, _separated)),
    Claim("extend separates any of 4 pairs of equals", 0.0, 0.05, lambda g, m: extend_errs(g, m, PAIRS, _separated)),
    Claim("extend calls unequal pairs equivalent", 0.0, 0.05, lambda g, m: extend_errs(g, m, NEAR, _equivalent, 0.01)),
)


def main() -> None:
    """Simulate, and print what came out."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sweeps", type=int, default=1000)
    sweeps = parser.parse_args().sweeps
    held = True
    for claim in CLAIMS:
        rate = claim.rate(np.random.default_rng(0), sweeps if "extend" in claim.what else 10 * sweeps)
        held = held and claim.low <= rate <= claim.high
        print(f"{claim.what}: {rate:.1%}, to be {claim.low:.0%} to {claim.high:.0%}", flush=True)
    rate = naive_errs(np.random.default_rng(0), sweeps)
    print(f"for comparison, t tests at every look, with Holm, separate any of 4 pairs of equals: {rate:.1%}")
    rate = skewed_errs(np.random.default_rng(0), max(1, sweeps // 4))
    print(f"what strains it, lognormal noise, four times as much in one of each pair: extend separates {rate:.1%}")
    for step in (1, 2, 4):
        part, seeds = ladder(np.random.default_rng(0), max(1, sweeps // 10), step)
        print(
            f"a ladder of 8 with steps of {step} sd: {part:.1%} of pairs separated, with {seeds:.0f} seeds in the mean"
        )
    raise SystemExit(0 if held else 1)


if __name__ == "__main__":
    main()
