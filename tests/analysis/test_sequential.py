"""Statements that hold however often one looks: against an integral, and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate, stats

from lfombench.analysis.pairs import paired
from lfombench.analysis.separation import Contest, Standing
from lfombench.analysis.sequential import log_e, seeds_needed, sequence_factor
from tests.simulations import CLAIMS, extended, losses


def test_the_e_value_is_the_ratio_of_two_densities():
    """Of the sample over its length, whose density is that of a mean of 0 times e: by integrals over sd and mean."""
    sample = np.array([0.3, 1.1, 0.8, -0.2])

    def marginal(tau: float) -> float:
        def density(log_sd: float) -> float:  # right Haar prior: flat in log sd
            sd = math.exp(log_sd)
            covariance = sd**2 * (np.eye(4) + tau**2 * np.ones((4, 4)))
            return float(stats.multivariate_normal(np.zeros(4), covariance).pdf(sample))

        return float(integrate.quad(density, -8, 8, limit=200)[0])

    theirs = 0.7 * marginal(1.0) / marginal(0.0) + 0.3 * marginal(10.0) / marginal(0.0)
    ours = log_e(np.array(4.0), np.array(sample.sum()), np.array((sample**2).sum()))
    assert math.exp(ours) == pytest.approx(theirs, rel=1e-6)


def test_one_difference_says_nothing_and_none_at_all_neither():
    assert log_e(np.array([1.0, 0.0]), np.array([3.0, 0.0]), np.array([9.0, 0.0])) == pytest.approx(
        [0.0, 0.0], abs=1e-12
    )
    assert log_e(np.array(5.0), np.array(0.0), np.array(0.0)) < 0  # equal to the last bit


def test_the_confidence_sequence_holds_the_means_that_are_not_refuted():
    sample = np.random.default_rng(0).normal(2.0, 1.0, 20)
    half = sequence_factor(np.array([20]), 0.05)[0] * sample.std(ddof=1) / math.sqrt(20)
    for sign in (-1, 1):
        for inside, shift in ((True, 0.999), (False, 1.001)):
            D = sample - sample.mean() - sign * shift * half
            e = log_e(np.array(20.0), np.array(D.sum()), np.array((D**2).sum()))
            assert (e < math.log(20)) == inside


def test_confidence_sequences_are_wider_than_intervals_and_hold_at_every_look():
    generator = np.random.default_rng(0)
    n = np.arange(2, 61)
    factor = sequence_factor(n, 0.05)
    assert (factor[3:] > stats.t.ppf(0.975, n[3:] - 1)).all()
    missed = 0
    for _ in range(400):
        sample = generator.normal(size=60)
        means, sds = sample.cumsum()[1:] / n, np.array([sample[:k].std(ddof=1) for k in n])
        missed += bool((np.abs(means) > factor * sds / np.sqrt(n)).any())
    assert missed / 400 < 0.05


def test_the_forecast_is_near_what_it_takes():
    generator = np.random.default_rng(0)
    taken = []
    for _ in range(60):
        D = generator.normal(1.0, 1.0, 200)
        e = log_e(np.arange(1, 201), D.cumsum(), (D**2).cumsum())
        taken.append(int(np.argmax(e > math.log(20))) + 1)
    assert np.median(taken) == pytest.approx(seeds_needed(1.0, 1, 0.05), rel=0.3)


def test_order_of_looks_and_interruptions_change_nothing():
    generator = np.random.default_rng(4)
    every = losses(generator, np.array([0.0, 1.0, 1.0]), 20)
    at_once = paired(every, sequential=True)
    assert paired(every[:, :12], sequential=True).p[0] >= at_once.p[0]
    for _ in range(5):
        other = paired(generator.permutation(every, axis=1), sequential=True)
        assert other.p == pytest.approx(at_once.p)
        assert other.equivalence_p == pytest.approx(at_once.equivalence_p)


def test_what_is_separated_has_an_interval_without_0():
    """Four seeds agree and would decide; the fifth does not, and undoes it, as it would have done had it come first."""
    every = np.zeros((2, 5))
    every[0] = -0.03 + np.array([0.0, 0.001, -0.001, 0.0, -0.36])
    for seeds, real in ((4, True), (5, False)):
        found = paired(every[:, :seeds], sequential=True)
        assert bool(found.differs[0]) == real
        assert (abs(found.mean[0]) > found.half_width[0]) == real


def test_verdicts_and_intervals_agree_wherever_one_stops():
    generator = np.random.default_rng(0)
    for _ in range(200):
        seeds = int(generator.integers(3, 30))
        every = losses(generator, np.array([0.0, generator.normal()]), seeds, float(generator.choice([0.01, 1.0])))
        every[0, -1] += float(generator.choice([0.0, 5.0]))
        found = paired(every, sequential=True)
        assert bool(found.differs[0]) == (abs(found.mean[0]) > found.half_width[0])


def test_seeds_go_only_to_pairs_that_are_undecided():
    generator = np.random.default_rng(0)
    every = losses(generator, np.array([0.0, 0.6, 50.0]), 64)
    standing, seeds = extended(every)
    assert standing.separated.all()
    assert seeds[2] == 5 < seeds[0] == seeds[1] < 64


def test_equals_end_as_equivalent_and_identical_ones_at_once():
    generator = np.random.default_rng(0)
    standing, seeds = extended(losses(generator, np.zeros(2), 64, 0.01))
    assert standing.equivalent.all()
    assert seeds.max() < 64
    same = np.tile(losses(generator, np.zeros(1), 5), (2, 1))
    assert Standing([Contest(("t", "t", "p", 1), ["a", "b"], same, None)]).equivalent.all()


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.what)
def test_simulations(claim):
    """`make simulate` runs a thousand of each; of these few, rates may be off by four standard errors."""
    sweeps = 60 if "extend" in claim.what else 400
    rate = claim.rate(np.random.default_rng(1), sweeps)
    slack = 4 * math.sqrt(0.05 * 0.95 / sweeps)
    assert claim.low - slack <= rate <= claim.high + slack


def test_no_seeds_for_pairs_that_seeds_cannot_decide():
    """The better one by the mean lost a seed that the other did not, so neither is better."""
    every = losses(np.random.default_rng(0), np.array([0.0, 5.0]), 8)
    every[0, 3] = np.inf
    standing = Standing([Contest(("t", "t", "p", 1), ["a", "b"], every, 9.0)])
    assert standing.undecided.all()
    assert standing.wanted(64) == {}


def test_seeds_go_to_the_solver_that_has_fewer():
    every = losses(np.random.default_rng(0), np.zeros(2), 40)
    every[1, 5:] = np.nan
    standing = Standing([Contest(("t", "t", "p", 1), ["a", "b"], every, None)])
    assert {solver for _, solver in standing.wanted(64)} == {"b"}
