"""What packs will cost: the prior, corrected by what a store has seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lfombench.harness import PROTOCOLS, Job
from lfombench.harness.scheduler.estimate import History, estimate
from lfombench.harness.training.cost import prior, structure
from lfombench.harness.training.pack import Cost, Pack
from lfombench.solvers import LinearTransformer
from lfombench.tasks import LinearRegression
from tests.builders import SWEEP


def wide(**protocol) -> list[Job]:
    given = Job.of(
        task=LinearRegression(d=50, n=60),
        solver=LinearTransformer(depth=4, preconditioner="full"),
        protocol=replace(PROTOCOLS["published"], **protocol),
        seed=0,
    )
    return [replace(given, seed=s) for s in range(100)]


def seen(job: Job, *factors: float) -> History:
    """A store in which packs of that job's structure cost so many times the prior."""
    p = prior(job)
    return History.of(
        [
            {
                "structure": structure(job),
                "pack_seconds": f * p.seconds(3),
                "prior_seconds": p.seconds(3),
                "pack_memory": 2 * p.bytes(3),
                "prior_memory": p.bytes(3),
            }
            for f in factors
        ],
        {},
    )


def test_history_corrects_the_prediction_and_narrows_its_interval():
    job, other = list(SWEEP.jobs())[:2]
    plain = History().cost(Pack((job,)))
    assert not plain.measured
    assert plain.low < plain.seconds < plain.high
    measured = seen(job, 5.0, 5.0, 5.0).cost(Pack((job,)))
    assert measured.measured
    assert measured.seconds == pytest.approx(5 * plain.seconds)
    assert measured.memory == pytest.approx(2 * plain.memory)
    assert measured.high / measured.low < plain.high / plain.low
    spread = seen(job, 1.0, 3.0, 9.0).cost(Pack((job,)))
    assert spread.high / spread.low > measured.high / measured.low
    assert seen(other, 5.0).cost(Pack((job,))).seconds == pytest.approx(5 * History().cost(Pack((job,))).seconds)


def test_the_interval_holds_what_it_says():
    """Packs whose cost is log-normal about the prior: 80 % of new ones lie in the interval, from 65 to 95 here."""
    job = wide()[0]
    random = np.random.default_rng(0)
    inside = 0
    for _ in range(300):
        cost = seen(job, *np.exp(0.7 + 0.4 * random.standard_normal(20))).cost(Pack((job,)))
        inside += cost.low < prior(job).seconds(1) * np.exp(0.7 + 0.4 * random.standard_normal()) < cost.high
    assert 0.65 < inside / 300 < 0.95


def test_an_estimate_sums_over_workers():
    costs = [Cost(4.0, 2.0, 8.0, 0.0, True), Cost(1.0, 0.5, 2.0, 0.0, False), Cost(1.0, 0.5, 2.0, 0.0, False)]
    two = estimate([(costs, 2)])
    assert (two.seconds, two.low, two.high, two.measured) == (4.0, 2.0, 8.0, True)
    assert estimate([(costs, 1)]).seconds == 6.0
    assert estimate([([], 2)]).seconds == 0
