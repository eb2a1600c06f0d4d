"""Philox against its published vectors, and what is drawn from it against the distributions it should have."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lfombench.harness.compiler.streams import Draws, Streams, keys, philox

CPU = torch.device("cpu")


def streams(*words, dtype=torch.float64, step=0, first=0) -> Streams:
    return Streams(keys([(word,) for word in words], CPU), dtype, step, first)


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_philox_gives_its_published_words(counter, key, expected):
    """Known answers for 4x32-10 from Random123 (Salmon et al., 2011)."""

    def words(text):
        return [torch.tensor(int(word, 16)) for word in text.split()]

    assert philox(words(counter), words(key)) == words(expected)


def test_a_stream_is_the_same_everywhere():
    """Pinned: numbers on record depend on it."""
    assert keys([("test", 1)], CPU).tolist() == [[2954696867, 297274658, 1409791969]]
    drawn = Streams(keys([("test", 1)], CPU), torch.float32, step=3, first=5).uniform(4, 1).flatten()
    assert drawn.tolist() == pytest.approx([0.61420363, 0.38457328, 0.97243518, 0.88892144], rel=1e-7)


@given(
    st.lists(st.tuples(st.sampled_from(["train", "test"]), st.integers(0, 10**9)), min_size=2, max_size=20, unique=True)
)
def test_streams_have_nothing_in_common(words):
    """No counter gives two streams the same four words: one alone may well recur, uniforms having 23 bits."""
    counters = Streams(keys(words, CPU), torch.float64).uniform(16, 1).reshape(-1, 4)
    assert len(torch.unique(counters, dim=0)) == 4 * len(words)


def test_a_variate_depends_on_nothing_but_its_place():
    """Not on the batch, the streams beside it, or how a batch is cut."""
    whole = streams("a", "b").normal(5, 3, 40)
    assert torch.equal(streams("b").normal(5, 3, 40)[0], whole[1])
    assert torch.equal(streams("a", first=24).normal(5, 3, 16)[0], whole[0, ..., 24:])
    assert torch.equal(streams("a", "b").normal(5, 3, 7), whole[..., :7])
    assert not torch.equal(streams("a", "b", step=1).normal(5, 3, 40), whole)


def test_successive_draws_go_on_where_the_last_one_ended():
    """However a prompt's variates are asked for, they are the same ones; uniforms are others."""
    random = streams("a")
    parts = [random.normal(3, 50), random.normal(2, 5, 50).flatten(1, 2), random.normal(1, 50)]
    assert torch.equal(torch.cat(parts, 1), streams("a").normal(14, 50))
    assert len(torch.unique(torch.cat([*parts, random.uniform(4, 50), random.uniform(1, 50)], 1))) == 19 * 50


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_normals_are_normal(dtype):
    x = streams("normal", dtype=dtype).normal(8, 50_000)[0]
    assert x.dtype == dtype
    for row in x:  # sine and cosine, first and second pair
        assert stats.kstest(row.numpy(), "norm").pvalue > 1e-4
    correlation = torch.corrcoef(x.double()) - torch.eye(8)
    assert correlation.abs().max() < 5 / 50_000**0.5
    assert torch.corrcoef(x.double().square()).sub(torch.eye(8)).abs().max() < 5 / 50_000**0.5  # a pair shares a radius


def test_uniforms_are_uniform_and_neither_0_nor_1():
    x = streams("uniform").uniform(4, 100_000)
    assert x.min() > 0
    assert x.max() < 1
    for row in x[0]:
        assert stats.kstest(row.numpy(), "uniform").pvalue > 1e-4


@pytest.mark.parametrize("degrees", [1, 2, 3, 7, 8, 15, 16, 20, 33, 512])
def test_chi_squares_have_their_degrees_of_freedom(degrees):
    [row] = streams("chi", degrees).chi([degrees], 50_000)[0].square()
    assert stats.kstest(row.numpy(), stats.chi2(degrees).cdf).pvalue > 1e-4


def test_chi_squares_of_one_call_are_independent_and_each_row_has_its_own_degrees():
    degrees = [20, 1, 471, 9, 512, 3, 18]  # few and many in turn; 471 has one term less in its polynomial
    x = streams("chi").chi(degrees, 50_000)[0].square()
    assert (torch.corrcoef(x) - torch.eye(len(degrees))).abs().max() < 5 / 50_000**0.5
    for row, k in zip(x, degrees, strict=True):
        assert stats.kstest(row.numpy(), stats.chi2(k).cdf).pvalue > 1e-4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("degrees", [8, 11, 15, 16, 20, 100])
def test_a_chi_is_the_quantile_of_its_normal(degrees, dtype):
    """Against SciPy over the whole reach, tails included: to the precision of float32."""
    z = torch.linspace(-6.7, 6.7, 2001, dtype=dtype)

    class Fixed(Draws):
        def normal(self, *shape):
            return z.expand(1, 1, -1)

        def uniform(self, *shape):
            raise AssertionError("no uniforms are needed")

    ours = Fixed().chi([degrees], len(z))[0, 0].double().numpy()
    chi2, norm = stats.chi2(degrees), stats.norm
    w = z.double().numpy()
    exact = np.sqrt(np.where(w < 0, chi2.ppf(norm.cdf(w)), chi2.isf(norm.sf(w))))
    assert np.abs(ours - exact).max() < 6e-7 * degrees**0.5
