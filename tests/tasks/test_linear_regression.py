"""Draws against what is known of Wishart matrices, rotations and least squares."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from lfombench.harness.compiler.streams import Streams, keys
from lfombench.tasks import LinearRegression, apply
from lfombench.tasks.covariates import haar

SPECTRUM = (1.0, 1.0, 0.5, 0.25, 1.0)
CPU = torch.device("cpu")


def streams(*words: str, count: int = 1) -> Streams:
    return Streams(keys([(*words, i) for i in range(count)], CPU), torch.float64)


def drawn(task: LinearRegression, prompts: int, *, through: str, count: int = 1):
    """Prompts, and the covariance of the covariates."""
    frame = task.frame(streams("frame", count=count))
    random = streams(through, count=count)
    if through == "statistics":
        return task.prompts(random, frame, prompts)
    return task.examples(random, frame, prompts).prompts(sampled_query=False)


@pytest.mark.parametrize("through", ["examples", "statistics"])
@pytest.mark.parametrize("rotation", ["none", "per_seed"])
def test_moments_of_G_are_those_of_a_wishart_matrix(through, rotation):
    """E G = Sigma and Var G_ij = (Sigma_ij^2 + Sigma_ii Sigma_jj) / n."""
    n, count = 20, 40_000
    prompts = drawn(LinearRegression(d=5, n=n, spectrum=SPECTRUM, rotation=rotation), count, through=through)
    Sigma = (prompts.problem.law.root.squeeze(-1) @ prompts.problem.law.root.squeeze(-1).mT)[0]
    G = prompts.problem.G[0]
    variance = (Sigma**2 + Sigma.diagonal()[:, None] * Sigma.diagonal()) / n
    assert torch.all((G.mean(-1) - Sigma).abs() < 5 * (variance / count).sqrt())
    assert torch.allclose(G.var(-1), variance, rtol=0.08, atol=1e-4)


@pytest.mark.parametrize(("d", "n"), [(5, 20), (3, 3), (5, 2), (1, 4), (4, 1)])
def test_bartlett_and_X_draw_the_same_distribution(d, n):
    """Two-sample Kolmogorov-Smirnov on functions of (G, b), also where n < d and G is singular."""
    task = LinearRegression(d=d, n=n, spectrum=SPECTRUM[:d], noise=0.3, rotation="none")
    one, other = (drawn(task, 20_000, through=through) for through in ("examples", "statistics"))
    for prompts in (one, other):
        eigenvalues = torch.linalg.eigvalsh(prompts.problem.G[0].movedim(-1, 0))
        assert torch.all(eigenvalues[:, max(d - n, 0) :] > 0)
        assert torch.all(eigenvalues[:, : max(d - n, 0)].abs() < 1e-12)
    for name, function in {
        "trace": lambda p: p.problem.G[0].diagonal().sum(-1),
        "corner": lambda p: p.problem.G[0, 0, d - 1],
        "b": lambda p: p.problem.b[0, 0],
        "noise": lambda p: (p.problem.b - apply(p.problem.G, p.w_star))[0, d - 1],
        "value": lambda p: (p.problem.b * p.w_star).sum(1)[0],
    }.items():
        p_value = stats.ks_2samp(function(one).numpy(), function(other).numpy()).pvalue
        assert p_value > 1e-4, f"{name}: {p_value}"  # one in 25


@pytest.mark.parametrize("through", ["examples", "statistics"])
@pytest.mark.parametrize("rotation", ["none", "per_seed", "per_prompt"])
def test_without_noise_b_is_G_w_star(through, rotation):
    prompts = drawn(LinearRegression(d=4, n=6, rotation=rotation), 50, through=through, count=3)
    assert torch.allclose(prompts.problem.b, apply(prompts.problem.G, prompts.w_star))
    assert torch.allclose(prompts.problem.gradient(prompts.w_star), torch.zeros(()).double(), atol=1e-12)


def test_noise_has_the_variance_of_least_squares():
    """b - G w* = X^T e / n has covariance noise^2 G / n."""
    task = LinearRegression(d=3, n=10, noise=0.7, rotation="none")
    for through in ("examples", "statistics"):
        prompts = drawn(task, 100_000, through=through)
        excess = prompts.problem.b - apply(prompts.problem.G, prompts.w_star)
        assert torch.allclose(excess[0].var(-1), torch.full((3,), 0.49 / 10).double(), rtol=0.03)


@pytest.mark.parametrize("rotation", ["none", "per_seed", "per_prompt"])
def test_weights_and_labels_have_the_stated_spread(rotation):
    """w* ~ N(0, Sigma^{-1}), so <w*, x> has variance d whatever the spectrum."""
    task = LinearRegression(d=5, n=2, spectrum=SPECTRUM, rotation=rotation)
    examples = task.examples(streams("x"), task.frame(streams("frame")), 60_000)
    label = (examples.query * examples.w_star).sum(1)
    assert label.square().mean().item() == pytest.approx(5, rel=0.05)
    judged = examples.prompts(sampled_query=False)
    assert judged.squared_error(torch.zeros_like(examples.w_star)).mean().item() == pytest.approx(5, rel=0.05)


@pytest.mark.parametrize("rotation", ["per_seed", "per_prompt"])
def test_exact_query_is_the_mean_over_sampled_queries(rotation):
    task = LinearRegression(d=5, n=20, spectrum=SPECTRUM, rotation=rotation)
    examples = task.examples(streams("x"), task.frame(streams("frame")), 100_000)
    w = 0.3 * examples.w_star.roll(1, -1)
    exact = examples.prompts(sampled_query=False).squared_error(w).mean()
    sampled = examples.prompts(sampled_query=True).squared_error(w)
    assert (sampled.mean() - exact).abs() < 4 * sampled.std() / len(sampled[0]) ** 0.5


def test_sampled_query_is_the_query():
    task = LinearRegression(d=3, n=4)
    examples = task.examples(streams("x", count=2), task.frame(streams("frame", count=2)), 7)
    w = torch.ones_like(examples.w_star)
    expected = (examples.query * (w - examples.w_star)).sum(1) ** 2
    assert torch.allclose(examples.prompts(sampled_query=True).squared_error(w), expected)
    rated = w.expand(2, *w.shape)  # with an axis of learning rates in front
    assert torch.allclose(examples.prompts(sampled_query=True).squared_error(rated)[1], expected)


@pytest.mark.parametrize("d", [1, 2, 5])
def test_haar_is_orthogonal_and_uniform(d):
    """Columns are uniform on the sphere: squared entries follow Beta(1/2, (d-1)/2); the trace has variance 1."""
    Q = haar(streams("haar"), d, 20_000)[0].movedim(-1, 0)
    assert torch.allclose(Q @ Q.mT, torch.eye(d).double().expand_as(Q), atol=1e-12)
    if d > 1:
        for i, j in ((0, 0), (d - 1, 0), (0, d - 1), (d - 1, d - 1)):
            p_value = stats.kstest(Q[:, i, j].numpy() ** 2, stats.beta(0.5, (d - 1) / 2).cdf).pvalue
            assert p_value > 1e-3
    trace = Q.diagonal(dim1=-2, dim2=-1).sum(-1)
    assert trace.mean().abs().item() < 0.05
    assert trace.var().item() == pytest.approx(1, abs=0.05)
    assert torch.linalg.det(Q).mean().abs().item() < 0.05


def test_a_seed_fixes_its_rotation():
    task = LinearRegression(d=4, n=4, rotation="per_seed")
    frame = task.frame(streams("frame", count=2))
    assert frame is not None
    assert torch.equal(frame, task.frame(streams("frame", count=2)))
    assert not torch.allclose(frame[0], frame[1])
    roots = task.prompts(streams("x", count=2), frame, 3).problem.law.root
    assert roots.shape == (2, 4, 4, 1)
    assert torch.equal(LinearRegression(d=4, n=4, rotation="none").frame(streams("frame"))[0], torch.eye(4).double())


def test_tokens_hold_examples_query_and_a_hidden_label():
    task = LinearRegression(d=3, n=4)
    examples = task.examples(streams("x"), task.frame(streams("frame")), 5)
    Z = examples.tokens()
    assert Z.shape == (1, 4, 5, 5)
    assert torch.equal(Z[0, :3, :4], examples.X[0])
    assert torch.equal(Z[0, :3, 4], examples.query[0])
    assert torch.equal(Z[0, 3, :4], examples.y[0])
    assert np.all(Z[0, 3, 4].numpy() == 0)


def test_withheld_examples_are_not_seen():
    task = LinearRegression(d=3, n=4)
    examples = task.examples(streams("x"), task.frame(streams("frame")), 5)
    fewer: Any = examples.withhold(1).problem()
    X = examples.X[:, :, :3]
    assert torch.allclose(fewer.G, torch.einsum("sinp,sjnp->sijp", X, X) / 3)


def test_packed_floats_mean_the_same_as_alone():
    """Tasks of one shape draw together what each draws alone."""
    from lfombench.harness.training.pack import stack

    tasks = [LinearRegression(d=3, n=5, spectrum=(1.0, 2.0, c), noise=c) for c in (0.5, 3.0)]
    packed = stack(tasks, torch.float64, CPU)
    frame = packed.frame(streams("frame", count=2))
    together: Any = packed.prompts(streams("x", count=2), frame, 6)
    for i, task in enumerate(tasks):
        random = Streams(keys([("x", i)], CPU), torch.float64)
        alone: Any = task.prompts(random, frame[i : i + 1], 6)
        assert torch.allclose(together.problem.G[i], alone.problem.G[0])
        assert torch.allclose(together.problem.b[i], alone.problem.b[0])


def test_whiten_divides_by_the_covariance():
    for rotation in ("per_seed", "per_prompt"):
        task = LinearRegression(d=4, n=6, spectrum=(1.0, 0.5, 2.0, 0.1), rotation=rotation)
        problem = drawn(task, 5, through="statistics").problem
        root = problem.law.root.expand(1, 4, 4, 5).movedim(-1, 1)
        g = torch.randn(1, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        back = (root @ root.mT @ problem.whiten(g).movedim(-1, 1).unsqueeze(-1)).squeeze(-1).movedim(1, -1)
        assert torch.allclose(back, g)


def test_spectrum_of_the_wrong_length():
    with pytest.raises(ValueError, match=r"spectrum: got 2 numbers, needs d = 3"):
        LinearRegression(d=3, n=4, spectrum=(1.0, 1.0)).check()
