"""The simulation theorem: Memformers follow linear first-order methods, in token form, to 1e-9 in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lfombench.harness.compiler.streams import Streams, keys
from lfombench.solvers import (
    Chebyshev,
    ConjugateGradient,
    GdPlusPlus,
    GradientDescent,
    HeavyBall,
    Lfom,
    LinearTransformer,
    Memformer,
    Nesterov,
    coefficients_of,
    compile_lfom,
)
from lfombench.solvers.attention import softmax
from lfombench.tasks import CATALOG, LinearRegression

CPU = torch.device("cpu")


def examples(jobs: int, prompts: int, task: LinearRegression | None = None) -> Any:
    task = task or LinearRegression(d=4, n=9, spectrum=(1.0, 0.5, 2.0, 1.0), noise=0.3)
    frame = task.frame(Streams(keys([("frame", i) for i in range(jobs)], CPU), torch.float64))
    return task.examples(Streams(keys([("x", i) for i in range(jobs)], CPU), torch.float64), frame, prompts)


def points(Gamma: torch.Tensor, problem) -> list[torch.Tensor]:
    """The definition: w_{m+1} = w_0 + sum_i Gamma_i^m grad R(w_i). Gamma: jobs k k d."""
    w = [problem.start()]
    gradients: list[torch.Tensor] = []
    for m in range(Gamma.shape[1]):
        gradients.append(problem.gradient(w[-1]))
        w.append(w[0] + sum(Gamma[:, m, i, :, None] * g for i, g in enumerate(gradients)))
    return w


@pytest.mark.parametrize("diagonal", [False, True], ids=["scalar", "diagonal"])
@pytest.mark.parametrize("depth", [1, 2, 3, 5, 8])
def test_a_thousand_random_methods_are_memformers(diagonal, depth):
    """100 at each depth and kind: on tokens, and on (G, b), where every iterate is compared in R^d."""
    jobs, generator = 100, torch.Generator().manual_seed(depth)
    given = examples(jobs, 5)
    Gamma = 0.4 * torch.randn(jobs, depth, depth, 4 if diagonal else 1, generator=generator, dtype=torch.float64)
    expected = points(Gamma.expand(-1, -1, -1, 4), given.problem())
    scale = 1 + max(w.abs().max().item() for w in expected)
    for tokens in (False, True):
        model, params = compile_lfom(Gamma if diagonal else Gamma.squeeze(-1), diagonal=diagonal, tokens=tokens)
        if tokens:
            found = list(model.predictions(params, given.tokens()))
            wanted = [(w * given.query).sum(1) for w in expected]
        else:
            found, wanted = list(model.iterates(params, given.problem())), expected
        assert len(found) == depth + 1
        for a, b in zip(found, wanted, strict=True):
            assert (a - b).abs().max() < 1e-9 * scale


@pytest.mark.parametrize(
    "method",
    [
        GradientDescent(depth=6, step=0.3),
        HeavyBall(depth=6, step=0.3, momentum=0.6),
        HeavyBall(depth=6, step="theory", momentum="theory"),
        Nesterov(depth=6, step=0.3, momentum=0.8),
        Chebyshev(depth=6, interval="theory"),
    ],
    ids=repr,
)
def test_classical_methods_are_memformers(method):
    """The last iterate of each, on tokens; Nesterov's layers follow its extrapolated points, and end at w_k."""
    given = examples(1, 20, LinearRegression(d=4, n=9, noise=0.3))
    Gamma = coefficients_of(method, {}, given.problem())
    model, params = compile_lfom(Gamma, tokens=True)
    *_, found = model.predictions(params, given.tokens())
    *_, w = method.iterates({}, given.problem())
    assert torch.allclose(found, (w * given.query).sum(1), rtol=1e-9, atol=1e-9)


def test_conjugate_gradients_of_one_prompt_are_a_memformer_and_on_the_next_another():
    """Gamma from a prompt's own a and c: w+ = w + a p, p+ = r+ + c p. On another prompt it is another method."""
    given = examples(1, 2, LinearRegression(d=4, n=9, noise=0.3))
    problem = given.problem()
    G, b = problem.G[0, :, :, 0], problem.b[0, :, 0]
    k = 4
    r = p = b
    direction = torch.zeros(k, dtype=torch.float64)  # p as a combination of gradients
    direction[0] = -1
    w, Gamma = torch.zeros(k, dtype=torch.float64), torch.zeros(1, k, k, dtype=torch.float64)
    for m in range(k):
        a = (r @ r) / (p @ G @ p)
        w = w + a * direction
        Gamma[0, m] = w
        r, old = r - a * (G @ p), r
        c = (r @ r) / (old @ old)
        p = r + c * p
        direction = c * direction
        if m + 1 < k:
            direction[m + 1] -= 1
    model, params = compile_lfom(Gamma, tokens=True)
    theirs = [(w * given.query).sum(1) for w in ConjugateGradient(depth=k).iterates({}, problem)]
    gaps = [(a - b).abs()[0] for a, b in zip(model.predictions(params, given.tokens()), theirs, strict=True)]
    assert max(gap[0] for gap in gaps) < 1e-8
    assert max(gap[1] for gap in gaps) > 1e-3


def test_methods_whose_coefficients_depend_on_the_prompt_are_refused():
    with pytest.raises(TypeError, match="depend on the prompt"):
        coefficients_of(ConjugateGradient(depth=2), {})
    with pytest.raises(TypeError, match="preconditioned"):
        coefficients_of(GradientDescent(depth=2, step=0.1, preconditioner="covariance"), {})


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return 0.3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_free_lfom_is_its_definition_and_a_memformer():
    given = examples(2, 5)
    Gamma = random(2, 6)
    wide = torch.zeros(2, 3, 3, 4, dtype=torch.float64)
    for m in range(3):
        for i in range(m + 1):
            wide[:, m, i] = Gamma[:, m * (m + 1) // 2 + i, None]
    expected = points(wide, given.problem())
    for a, b in zip(
        Lfom(depth=3, coefficients="scalar").iterates({"Gamma": Gamma}, given.problem()), expected, strict=True
    ):
        assert torch.allclose(a, b)


def test_a_tied_lfom_is_heavy_ball_with_momentum_one():
    """w_{k+1} - w_k = w_k - w_{k-1} + Gamma_k g_k."""
    given = examples(2, 5)
    Gamma = random(2, 4)
    ours = list(Lfom(depth=4, coefficients="scalar", tied=True).iterates({"Gamma": Gamma}, given.problem()))
    theirs = HeavyBall(depth=4, step="per_layer", momentum="per_layer").iterates(
        {"step": -Gamma, "momentum": torch.ones(2, 3).double()}, given.problem()
    )
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b)


def test_heads_add_up_and_a_loop_repeats():
    given, A = examples(2, 5), random(2, 6, 4, 4)
    plain = LinearTransformer(depth=3, preconditioner="full")
    heads = LinearTransformer(depth=3, preconditioner="full", heads=2)
    looped = LinearTransformer(depth=3, preconditioner="full", looped=True)
    summed = A[:, ::2] + A[:, 1::2]
    for a, b in zip(
        heads.iterates({"A": A}, given.problem()), plain.iterates({"A": summed}, given.problem()), strict=True
    ):
        assert torch.allclose(a, b)
    repeated = A[:, :1].expand(-1, 3, -1, -1)
    for a, b in zip(
        looped.iterates({"A": A[:, :1]}, given.problem()), plain.iterates({"A": repeated}, given.problem()), strict=True
    ):
        assert torch.allclose(a, b)


def test_gates_of_all_tokens_alike_are_scalar_gates():
    given, A, Gamma = examples(2, 5), random(2, 3, 4, 4), random(2, 3, seed=1)
    for memory in ("lfom", "ungated", "hadamard"):
        count = 3 if memory == "lfom" else 2
        token = Memformer(depth=3, memory=memory, preconditioner="full", gate="token")
        scalar = Memformer(depth=3, memory=memory, preconditioner="full", tokens=True)
        wide = {"A": A, "Gamma": Gamma[:, :count, None].expand(-1, -1, 10)}
        for a, b in zip(
            token.predictions(wide, given.tokens()),
            scalar.predictions({"A": A, "Gamma": Gamma[:, :count]}, given.tokens()),
            strict=True,
        ):
            assert torch.allclose(a, b)


@pytest.mark.parametrize("memory", ["none", "cgd", "lfom"])
def test_gd_plus_plus_without_b_is_the_transformer_with_p_zero(memory):
    given, A = examples(2, 5), random(2, 3, 4, 4)
    Z, B = given.tokens(), torch.zeros(2, 3, 4, 4).double()
    ones = {"cgd": {"alpha": 1 + random(2, 3), "gamma": random(2, 2, seed=2)}, "lfom": {"Gamma": random(2, 3, 5, 10)}}
    more = ones.get(memory, {})
    ours = GdPlusPlus(depth=3, memory=memory).predictions({"A": A, "B": B, **more}, Z)
    if memory == "none":
        theirs = LinearTransformer(depth=3, preconditioner="full", tokens=True).predictions({"A": A}, Z)
    elif memory == "cgd":
        theirs = Memformer(depth=3, memory="cgd", preconditioner="full", tokens=True).predictions({"A": A, **more}, Z)
    else:
        rows = {"Gamma": more["Gamma"][:, :, -1]}  # with B = 0 the gates of the other rows meet zeros
        theirs = Memformer(depth=3, memory="lfom", preconditioner="full", gate="token").predictions({"A": A, **rows}, Z)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b)


def test_several_heads_of_gd_plus_plus_are_a_sum_and_more_than_one_head_can():
    given = examples(1, 4)
    A, B = random(1, 2, 4, 4), random(1, 2, 4, 4, seed=1)
    Z = given.tokens()
    both = list(GdPlusPlus(depth=1, heads=2).predictions({"A": A, "B": B}, Z))[1]
    each = [list(GdPlusPlus(depth=1).predictions({"A": A[:, h : h + 1], "B": B[:, h : h + 1]}, Z))[1] for h in (0, 1)]
    assert torch.allclose(both, each[0] + each[1])


def test_softmax_attention_is_its_definition():
    given = examples(1, 3, CATALOG["isotropic"])
    Z, A = given.tokens(), random(1, 5, 5)
    X, y = Z[:, :-1], Z[:, -1]
    for p in range(3):
        scores = X[0, :, :20, p].T @ A[0] @ X[0, :, :, p]  # examples first
        expected = torch.softmax(scores, 0).T @ y[0, :20, p]
        assert torch.allclose(softmax(A, X, y)[0, :, p], expected)
