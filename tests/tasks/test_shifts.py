"""Ways in which a task leaves the one that something was trained on: moments, angles, closed forms."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from scipy import stats

from lfombench.harness.compiler.streams import Streams, keys
from lfombench.harness.training.pack import stack
from lfombench.tasks import LinearRegression, ReluNetwork, Union

CPU = torch.device("cpu")
COUNT = 20_000
TASK = LinearRegression(d=4, n=3, spectrum=(1.0, 0.5, 2.0, 0.7))


def streams(*words, count: int = 1) -> Streams:
    return Streams(keys([(*words, i) for i in range(count)], CPU), torch.float64)


def drawn(task, count: int = COUNT):
    return task.examples(streams("x"), task.frame(streams("frame")), count)


@pytest.mark.parametrize(
    "shift",
    [
        {"variance": 3.0},
        {"mean": 1.5},
        {"mean": 1.5, "variance": 0.5},
        {"turn": 0.4},
        {"mean": 0.8, "correlation": 0.6},
        {"tails": 0.3},
    ],
    ids=str,
)
def test_x_has_the_second_moment_that_the_law_says(shift):
    examples = drawn(replace(TASK, **shift))
    root = examples.law.root[0, ..., 0]
    Sigma = root @ root.mT
    for X in (examples.query[0], examples.X[0].flatten(1)):
        assert torch.allclose(X @ X.mT / X.shape[1], Sigma, atol=0.05 * float(Sigma.diagonal().max()))
    y = examples.y[0]
    assert y.square().mean().item() == pytest.approx(4, rel=0.05)  # E y^2 = tr(Sigma Sigma^{-1}) = d
    assert torch.allclose(examples.law.dual[0, ..., 0].mT @ root, torch.eye(4).double())


def test_the_mean_is_along_all_axes_alike():
    """E x = m U D (1, .., 1) / sqrt(d), and the covariance about it is what it was."""
    there, before = drawn(replace(TASK, mean=2.0)), drawn(TASK)
    root = before.law.root[0, ..., 0]
    assert torch.allclose(there.query[0].mean(-1), 2.0 * root.sum(1) / 2, atol=0.06)
    assert torch.allclose(torch.cov(there.query[0]), root @ root.mT, atol=0.1)


def test_variance_and_strength_scale_x_and_labels():
    one, other = drawn(TASK, 50), drawn(replace(TASK, variance=4.0, strength=3.0), 50)
    assert torch.allclose(other.X, 2 * one.X)
    assert torch.allclose(other.y, 3 * one.y)  # w* ~ N(0, 9 Sigma^{-1})


@pytest.mark.parametrize("angle", [0.0, 0.3, math.pi / 2])
def test_a_turn_is_by_its_angle(angle):
    before, after = (replace(TASK, turn=x).frame(streams("frame"))[0] for x in (0.0, angle))
    R = before.mT @ after
    expected = torch.eye(4).double()
    for i, j in ((0, 3), (1, 2)):
        expected[i, i] = expected[j, j] = math.cos(angle)
        expected[i, j], expected[j, i] = -math.sin(angle), math.sin(angle)
    assert torch.allclose(R, expected)


def test_turns_and_means_are_packed():
    tasks = [replace(TASK, turn=a, mean=m, variance=v) for a, m, v in ((0.0, 0.5, 1.0), (0.7, 2.0, 3.0))]
    packed = stack(tasks, torch.float64, CPU)
    together = packed.examples(streams("x", count=2), packed.frame(streams("frame", count=2)), 6)
    for i, task in enumerate(tasks):
        frame = task.frame(Streams(keys([("frame", i)], CPU), torch.float64))
        alone = task.examples(Streams(keys([("x", i)], CPU), torch.float64), frame, 6)
        for name in ("X", "y", "query", "w_star"):
            assert torch.allclose(getattr(together, name)[i], getattr(alone, name)[0])


def test_tails_lengthen_fourth_moments_by_what_they_say():
    kurtosis = [drawn(LinearRegression(d=2, n=3, tails=t), 200_000).query.pow(4).mean().item() / 3 for t in (0.0, 0.25)]
    assert kurtosis == pytest.approx([1, math.exp(0.25)], rel=0.05)


@pytest.mark.parametrize("support", [1.0, 3.0])
def test_a_sparse_teacher_has_so_many_entries_and_the_same_size(support):
    examples = drawn(LinearRegression(d=4, n=3, weights="sparse", support=support))
    w = examples.w_star[0]
    assert (w != 0).sum(0).eq(support).all()
    assert w.square().sum(0).mean().item() == pytest.approx(4, rel=0.05)


def test_what_a_mean_takes_away():
    assert {"edges", "statistics"} <= TASK.facts
    assert not {"edges", "statistics"} & replace(TASK, mean=0.0).facts
    with pytest.raises(ValueError, match="turn: means nothing"):
        replace(TASK, turn=0.1, rotation="per_prompt").check()


@pytest.mark.parametrize("leak", [0.0, 0.5, 1.0])
def test_a_network_has_mean_square_d_and_is_linear_without_a_kink(leak):
    task = ReluNetwork(d=3, n=8, leak=leak)
    examples = drawn(task, 5000)
    assert examples.y.square().mean().item() == pytest.approx(3, rel=0.1)
    X, y = examples.X[0].movedim(-1, 0).mT, examples.y[0].movedim(-1, 0)
    w = torch.linalg.lstsq(X, y.unsqueeze(-1)).solution
    left = (X @ w).squeeze(-1) - y
    assert (left.abs().max() < 1e-9) == (leak == 1.0)


def test_a_union_is_of_all_its_components_alike():
    parts = tuple(replace(TASK, variance=v, strength=v, noise=v) for v in (1.0, 10.0, 100.0))
    task = Union(d=4, n=3, components=parts)
    task.check()
    frame = task.frame(streams("frame"))
    examples = task.examples(streams("x"), frame, COUNT)
    size = examples.law.root[0].square().sum((0, 1)) / TASK.law(streams("x"), frame[:, 0], 1).root.square().sum()
    shares = [(size / v).log().abs().lt(1e-6).double().mean().item() for v in (1.0, 10.0, 100.0)]
    assert shares == pytest.approx([1 / 3] * 3, abs=0.02)
    # x, y and w* of a prompt are of the component that its law is of
    clean = (examples.X * examples.w_star.unsqueeze(-2)).sum(1)
    error = (examples.y - clean)[0].std(0)
    assert torch.corrcoef(torch.stack([error.log(), size.log()]))[0, 1] > 0.9


def test_components_of_a_union_are_turned_each_by_its_own_angle():
    parts = tuple(replace(TASK, turn=angle) for angle in (0.0, 1.0))
    examples = drawn(Union(d=4, n=3, components=parts), 100)
    roots = [drawn(one, 1).law.root[0, ..., 0] for one in parts]
    which = [[torch.allclose(examples.law.root[0, ..., p], root) for root in roots] for p in range(100)]
    assert {tuple(one) for one in which} == {(True, False), (False, True)}


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ((TASK,), "got 1, a union has two or more"),
        ((TASK, replace(TASK, n=5)), "one has n = 5, the union 3"),
        ((TASK, replace(TASK, rotation="per_prompt")), "some are rotated anew"),
    ],
)
def test_a_union_that_cannot_be(parts, said):
    with pytest.raises(ValueError, match=said):
        Union(d=4, n=3, components=parts).check()


def test_a_union_by_bartlett_and_through_x_are_of_one_distribution():
    task = Union(d=4, n=6, components=tuple(replace(TASK, n=6, variance=v, noise=0.2) for v in (1.0, 9.0)))
    frame = task.frame(streams("frame"))
    one, examples = task.prompts(streams("a"), frame, COUNT), task.examples(streams("b"), frame, COUNT)
    other = examples.prompts(sampled_query=False)
    for function in (
        lambda p: p.problem.G[0].diagonal().sum(-1),
        lambda p: p.problem.b[0, 0],
        lambda p: (p.problem.b * p.w_star).sum(1)[0],
        lambda p: p.squared_error(p.problem.b)[0],
    ):
        assert stats.ks_2samp(function(one).numpy(), function(other).numpy()).pvalue > 1e-3
