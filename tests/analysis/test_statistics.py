"""Intervals over seeds, against SciPy and against how often they cover."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from lfombench.analysis.statistics import Sample


@pytest.mark.parametrize("values", [[1.0, 2.0], [0.3, 0.1, 0.7, 0.2], [5.0] * 3])
def test_interval_is_scipys(values):
    sample = Sample.of(np.array(values))
    mean, half_width = sample.mean, sample.half_width()
    assert sample.tenth == pytest.approx(np.std(values) / 10)
    assert mean == pytest.approx(np.mean(values))
    if len(set(values)) > 1:
        low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
        assert (mean - half_width, mean + half_width) == pytest.approx((low, high))
    else:
        assert half_width == 0


def test_one_value_has_no_interval():
    sample = Sample.of(np.array([2.0]))
    assert (sample.mean, sample.half_width(), sample.tenth) == (2.0, None, None)


def test_the_interval_covers_as_often_as_it_says():
    generator = np.random.default_rng(0)
    samples = generator.normal(3.0, 2.0, (4000, 5))
    covered = [abs(sample.mean - 3.0) <= sample.half_width() for sample in map(Sample.of, samples)]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.012)
