"""Pairs of solvers, against SciPy and statsmodels, and what failures, missing seeds and identical rows do to them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_paired

from lfombench.analysis.pairs import paired
from lfombench.analysis.statistics import ALPHA, Sample, holm, rank_sets, ties

LOST, NOT_YET = np.inf, np.nan


@pytest.fixture
def losses():
    generator = np.random.default_rng(3)
    means = np.array([0.0, 0.0, 0.3, 0.9, 3.0])
    return means[:, None] + generator.normal(size=(1, 8)) + 0.2 * generator.normal(size=(5, 8))


def test_tests_are_scipys_and_statsmodels(losses):
    found = paired(losses, margin=0.2)
    i, j = np.triu_indices(5, 1)
    theirs = [stats.ttest_rel(losses[a], losses[b]) for a, b in zip(i, j, strict=True)]
    assert found.p == pytest.approx([t.pvalue for t in theirs])
    intervals = [t.confidence_interval() for t in theirs]
    assert found.mean - found.half_width == pytest.approx([low for low, _ in intervals])
    assert found.mean + found.half_width == pytest.approx([high for _, high in intervals])
    reject, adjusted, *_ = multipletests(found.p, ALPHA, "holm")
    assert found.adjusted == pytest.approx(adjusted)
    assert (found.differs == reject).all()
    assert found.equivalence_p == pytest.approx(
        [ttost_paired(losses[a], losses[b], -0.2, 0.2)[0] for a, b in zip(i, j, strict=True)]
    )


def test_pairs_are_found_by_their_place(losses):
    found = paired(losses)
    i, j = np.triu_indices(5, 1)
    assert [found.index(a, b) for a, b in zip(i, j, strict=True)] == list(range(10))


def test_holm_leaves_out_what_was_not_tested():
    p = np.array([0.01, np.nan, 0.04, 0.03])
    assert holm(p)[[0, 2, 3]] == pytest.approx(multipletests(p[[0, 2, 3]], ALPHA, "holm")[1])
    assert np.isnan(holm(p)[1])


def test_the_two_numbers_that_are_the_same_are_identical():
    found = paired(np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0 + 1e-12]]))
    assert found.same.all()
    assert found.p == [1.0]
    assert found.equivalent.all()
    assert not found.differs.any()


def test_a_difference_without_spread_is_real_and_may_be_negligible():
    found = paired(np.array([[1.0, 2.0, 3.0], [1.001, 2.001, 3.001]]))
    assert found.differs.all()
    assert found.equivalent.all()
    assert found.better.tolist() == [[False, True], [False, False]]


@pytest.mark.parametrize(
    ("first", "second", "better"),
    [
        ([-9, -9, -9, -9, LOST], [0.0, 0.1, 0.2, 0.1, 0.0], None),  # no better mean on the other seeds wins
        ([LOST] * 5, [-3.0, -3.1, -2.9, -3.0, -3.2], "second"),
        ([LOST] * 5, [LOST] * 5, None),
        ([0.0, 0.1, 0.2, 0.1, LOST], [-9.0, -9.1, -9.0, -8.9, -9.0], "second"),
        ([LOST, 0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, LOST], None),
        ([-9.0, -9.2, -9.1, -9.0, NOT_YET], [0.0, 0.1, 0.2, 0.1, LOST], "first"),  # that seed is still to come
        ([-9.0, -9.2, -9.1, -9.0, LOST], [0.0, 0.1, 0.2, 0.1, LOST], "first"),  # both lost it
    ],
)
def test_a_lost_seed_is_the_worst_outcome(first, second, better):
    found = paired(np.array([first, second], dtype=float), zero=1.6)
    assert found.better[0, 1] == (better == "first")
    assert found.better[1, 0] == (better == "second")


def test_who_lost_more_is_not_equivalent():
    found = paired(np.array([[0.0, 0.0, LOST], [0.0, 0.0, 0.0]]), zero=0.0)
    assert not found.equivalent.any()
    assert found.lost.ravel().tolist() == [1, 0]


def test_fewer_than_two_common_seeds_are_no_test():
    found = paired(np.array([[1.0, NOT_YET, 2.0], [NOT_YET, 1.0, 3.0]]))
    assert np.isnan(found.p).all()
    assert found.seeds.tolist() == [1]
    assert np.isnan(found.half_width).all()
    assert not found.differs.any()
    assert not found.equivalent.any()


def test_shared_prompts_widen_what_seeds_say():
    losses = np.array([[1.0, 1.1, 0.9], [1.5, 1.6, 1.4]])
    alone, shared = paired(losses), paired(losses, shared=(np.array([1.0]), 63))
    assert alone.differs.all()
    assert not shared.differs.any()
    assert shared.error == pytest.approx(1.0)
    assert shared.df == pytest.approx(63)


def test_rank_sets_and_ties():
    better = np.zeros((4, 4), dtype=bool)
    better[0, 2:] = better[1, 3] = better[2, 3] = True
    best, worst = rank_sets(better)
    assert [*zip(best.tolist(), worst.tolist(), strict=True)] == [(1, 2), (1, 3), (2, 3), (4, 4)]
    assert ties(better | better.T) == [(0, 1), (1, 2)]
    assert ties(np.zeros((3, 3), dtype=bool)) == [(0, 2)]
    assert ties(~np.eye(3, dtype=bool)) == []


def test_outliers_are_grubbs():
    # by way of the NIST handbook: one of eight masses of uranium isotopes
    masses = np.array([199.31, 199.53, 200.19, 200.82, 201.92, 201.95, 202.18, 245.57])
    assert Sample.of(masses).outlier
    assert not Sample.of(masses[:-1]).outlier
    normal = np.random.default_rng(0).normal(size=(4000, 5))
    assert np.mean([Sample.of(each).outlier for each in normal]) == pytest.approx(0.01, abs=0.005)
    assert not Sample.of(np.array([1.0, 1.0, 1.0, 1.0 + 1e-13])).outlier
    found = paired(np.array([masses, np.zeros(8)]))
    assert found.outlier.all()


def test_solvers_that_lost_every_seed_are_not_equal():
    found = paired(np.full((2, 3), np.inf))
    assert not found.same[0]
    assert (found.p[0], found.equivalence_p[0]) == (1.0, 1.0)


def test_too_few_seeds_for_a_confidence_sequence_give_no_interval():
    """Two equal differences: nothing is decided, so their interval is no point."""
    found = paired(np.array([[0.0, 0.0], [0.5, 0.5]]), sequential=True)
    assert found.half_width[0] == found.together[0] == np.inf
    assert not found.differs[0]
    assert found.at_least[0] == 0.0


def test_identical_solvers_are_so_whatever_shared_prompts_add():
    found = paired(np.tile(np.array([0.0, 0.1, 0.3]), (2, 1)), shared=(np.array([0.01]), 63))
    assert found.same[0]
    assert found.half_width[0] == 0.0
