"""What nobody here wrote: theorems, SciPy, and numbers that need no training."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import cg

from lfombench.harness.compiler.streams import Streams, keys
from lfombench.solvers import BestLfom, ConjugateGradient, GdPlusPlus, GradientDescent, LinearTransformer, Memformer
from lfombench.tasks import Examples, LinearRegression, Prompts

CPU = torch.device("cpu")
FIGURE_1 = LinearRegression(d=5, n=20, spectrum=(1.0, 1.0, 0.5, 0.25, 1.0))
ISOTROPIC = LinearRegression(d=5, n=20)


def drawn(task: LinearRegression, prompts: int, role: str = "x") -> Any:
    frame = task.frame(Streams(keys([("frame",)], CPU), torch.float64))
    return task.prompts(Streams(keys([(role,)], CPU), torch.float64), frame, prompts)


def examples(task: LinearRegression, prompts: int, jobs: int = 2) -> Examples:
    frame = task.frame(Streams(keys([("frame", i) for i in range(jobs)], CPU), torch.float64))
    return task.examples(Streams(keys([("x", i) for i in range(jobs)], CPU), torch.float64), frame, prompts)


def log_losses(solver, params, prompts: Prompts) -> list[float]:
    return [math.log(prompts.squared_error(w).mean()) for w in solver.iterates(params, prompts.problem)]


def test_conjugate_gradients_are_exact_after_d_steps():
    prompts = drawn(FIGURE_1, 500)
    errors = [prompts.squared_error(w).max().item() for w in ConjugateGradient(depth=8).iterates({}, prompts.problem)]
    assert errors[4] > 1e-6
    assert max(errors[5:]) < 1e-12  # and it stays there


def test_conjugate_gradients_are_scipys():
    prompts = drawn(FIGURE_1, 5)
    ours = list(ConjugateGradient(depth=4).iterates({}, prompts.problem))
    for p in range(5):
        theirs: list[np.ndarray] = []
        G, b = prompts.problem.G[0, :, :, p].numpy(), prompts.problem.b[0, :, p].numpy()
        cg(G, b, rtol=0, maxiter=4, callback=lambda w, kept=theirs: kept.append(w.copy()))
        for k in range(4):
            assert np.allclose(ours[k + 1][0, :, p], theirs[k], rtol=1e-8)


@pytest.mark.parametrize(
    ("task", "expected"),
    [(FIGURE_1, (0.69, 0.14, -0.61, -1.61)), (ISOTROPIC, (-0.11, -1.79, -3.80, -6.40))],
    ids=["figure 1", "isotropic"],
)
def test_conjugate_gradients_reach_the_known_losses(task, expected):
    prompts = drawn(task, 100_000)
    for w, known in zip(list(ConjugateGradient(depth=4).iterates({}, prompts.problem))[1:], expected, strict=True):
        error = prompts.squared_error(w)
        spread = (
            error.std() / error.mean() / 20_000**0.5
        ).item()  # of a log mean over the 20,000 prompts behind `known`
        assert error.mean().log().item() == pytest.approx(known, abs=0.01 + 3 * spread)


@pytest.mark.parametrize(
    ("preconditioner", "expected"),
    [("identity", (0.810, 0.445, 0.156, -0.136)), ("covariance", (0.143, -1.018, -2.013, -2.906))],
)
def test_best_lfom_reaches_the_known_bounds(preconditioner, expected):
    solver = BestLfom(depth=4, preconditioner=preconditioner)
    fitted = drawn(FIGURE_1, 200_000, "fit")
    params = solver.fit(solver.moments({}, fitted.problem, fitted.residual))
    _, *found = log_losses(solver, params, drawn(FIGURE_1, 200_000))
    assert found == pytest.approx(expected, abs=0.03)


def test_best_lfom_at_one_step_is_the_closed_form():
    """E |w* - a G w*|^2 = d (1 - 2a + a^2 (n + d + 1) / n) is least at a = n / (n + d + 1)."""
    d, n = 5, 20
    fitted = drawn(ISOTROPIC, 400_000)
    solver = BestLfom(depth=1, preconditioner="identity")
    q = solver.fit(solver.moments({}, fitted.problem, fitted.residual))["q"]
    assert q.item() == pytest.approx(n / (n + d + 1), rel=0.01)


def test_nothing_scalar_beats_the_best_lfom_on_the_prompts_it_was_fitted_to():
    """Heavy ball, gradient descent and random scalar Memformers, in the mean over the same prompts."""
    prompts = drawn(FIGURE_1, 2000)
    best = BestLfom(depth=4, preconditioner="identity")
    bound = log_losses(best, best.fit(best.moments({}, prompts.problem, prompts.residual)), prompts)
    generator = torch.Generator().manual_seed(0)
    rivals = [(GradientDescent(depth=4, step=step), {}) for step in (0.1, 0.5, 1.0, 1.5)]
    for _ in range(50):
        params = {
            "A": torch.rand(1, 4, generator=generator).double(),
            "alpha": 2 * torch.rand(1, 4, generator=generator).double(),
            "gamma": torch.rand(1, 3, generator=generator).double(),
        }
        rivals.append((Memformer(depth=4, memory="cgd", preconditioner="scalar"), params))
    for solver, params in rivals:
        for k, loss in enumerate(log_losses(solver, params, prompts)):
            assert loss >= bound[k] - 1e-9


def test_two_layers_of_gd_plus_plus_are_not_below_the_best_method_of_four_steps():
    """With A and B multiples of I its residual polynomial has degree 1, 4, 13, ...: p+ = p (1 - a t^2 x),
    t+ = t (1 - a b t^2 x). So the bound of 4 steps holds for its 2 layers, though that of 2 does not.
    """
    prompts = drawn(ISOTROPIC, 4000)
    best = BestLfom(depth=4, preconditioner="identity")
    bound = log_losses(best, best.fit(best.moments({}, prompts.problem, prompts.residual)), prompts)
    eye, generator = torch.eye(5).double(), torch.Generator().manual_seed(0)
    lowest = math.inf
    for _ in range(300):
        a, b = torch.rand(2, 2, generator=generator).double() * torch.tensor([[1.2], [1.0]]).double()
        params = {"A": a[None, :, None, None] * eye, "B": b[None, :, None, None] * eye}
        lowest = min(lowest, log_losses(GdPlusPlus(depth=2), params, prompts)[2])
    assert bound[4] - 1e-9 <= lowest < bound[2]


def test_a_layer_is_a_gradient_step():
    """One P = 0 layer with A = eta I is gradient descent on the prompt's least-squares risk, by autograd."""
    drawn_examples = examples(FIGURE_1, 3, jobs=1)
    w = torch.zeros(1, 5, 3, dtype=torch.float64, requires_grad=True)
    predicted = torch.einsum("sdnp,sdp->snp", drawn_examples.X, w)
    risk = (predicted - drawn_examples.y).square().sum(1) / (2 * 20)
    (gradient,) = torch.autograd.grad(risk.sum(), w)
    params = {"A": torch.tensor([[0.7]], dtype=torch.float64)}
    solver = LinearTransformer(depth=1, preconditioner="scalar")
    assert torch.allclose(list(solver.iterates(params, drawn_examples.problem()))[1], -0.7 * gradient)


def test_learned_gradient_descent_is_the_scalar_linear_transformer():
    prompts = drawn(FIGURE_1, 20)
    eta = torch.rand(1, 3, generator=torch.Generator().manual_seed(1)).double()
    ours = GradientDescent(depth=3, step="per_layer").iterates({"step": eta}, prompts.problem)
    theirs = LinearTransformer(depth=3, preconditioner="scalar").iterates({"A": eta}, prompts.problem)
    for w, v in zip(ours, theirs, strict=True):
        assert torch.equal(w, v)


def test_a_memformer_without_memory_is_a_linear_transformer():
    prompts = drawn(FIGURE_1, 20)
    A = torch.randn(1, 3, 5, 5, generator=torch.Generator().manual_seed(1)).double() / 5
    params = {"A": A, "alpha": torch.ones(1, 3).double(), "gamma": torch.zeros(1, 2).double()}
    ours = Memformer(depth=3, memory="cgd", preconditioner="full").iterates(params, prompts.problem)
    theirs = LinearTransformer(depth=3, preconditioner="full").iterates({"A": A}, prompts.problem)
    for w, v in zip(ours, theirs, strict=True):
        assert torch.allclose(w, v)


def test_a_memformer_given_a_prompts_coefficients_is_conjugate_gradients():
    """With A = -I, alpha_l = -a_l and gamma_l = c_l of one prompt, s_l is CG's direction p_l."""
    prompts = drawn(FIGURE_1, 1)
    G, b = prompts.problem.G[0, :, :, 0], prompts.problem.b[0, :, 0]
    r = p = b
    a, c = [], []
    for _ in range(4):
        a.append((r @ r) / (p @ G @ p))
        r, r_old = r - a[-1] * (G @ p), r
        c.append((r @ r) / (r_old @ r_old))
        p = r + c[-1] * p
    params = {"A": -torch.ones(1, 4).double(), "alpha": -torch.stack(a)[None], "gamma": torch.stack(c[:3])[None]}
    ours = Memformer(depth=4, memory="cgd", preconditioner="scalar").iterates(params, prompts.problem)
    theirs = ConjugateGradient(depth=4).iterates({}, prompts.problem)
    for w, v in zip(ours, theirs, strict=True):
        assert torch.allclose(w, v, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("preconditioner", ["scalar", "diagonal", "full"])
@pytest.mark.parametrize(
    "fields",
    [
        None,
        {"memory": "cgd"},
        {"memory": "lfom"},
        {"memory": "lfom", "gate": "diagonal", "free": True},
        {"memory": "ungated", "free": True},
        {"memory": "ungated", "gate": "diagonal"},
        {"memory": "hadamard"},
        {"memory": "hadamard", "gate": "diagonal", "looped": True, "heads": 2},
    ],
    ids=str,
)
def test_token_form_is_the_method_form(fields, preconditioner):
    """Ahn et al., Lemma 1, with labels that carry noise: -[Z_l]_{d+1, n+1} = <w_l, query>, in float64."""
    given = examples(LinearRegression(d=5, n=8, spectrum=FIGURE_1.spectrum, noise=0.2), 6)
    make = LinearTransformer if fields is None else Memformer
    same_on_tokens(make(depth=4, preconditioner=preconditioner, **(fields or {})), given)


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("memory", ["none", "cgd"])
def test_gd_plus_plus_is_a_method_on_the_gram_matrix(memory, heads):
    """Covariates that a layer moves are moved by one matrix for the whole prompt: no token is needed."""
    given = examples(LinearRegression(d=5, n=8, spectrum=FIGURE_1.spectrum, noise=0.2), 6)
    same_on_tokens(GdPlusPlus(depth=4, memory=memory, heads=heads), given, scale=0.1)


def same_on_tokens(solver, given: Examples, scale: float = 0.3) -> None:
    """-[Z_l]_{d+1, n+1} = <w_l, query>."""
    random = Streams(keys([("init", 0), ("init", 1)], CPU), torch.float64)
    params = solver.init(5, 8, lambda *shape: scale * random.normal(*shape))
    by_tokens = list(solver.predictions(params, given.tokens()))
    by_method = [(w * given.query).sum(1) for w in solver.iterates(params, given.problem())]
    assert len(by_tokens) == len(by_method) == 5
    for token, method in zip(by_tokens, by_method, strict=True):
        assert torch.allclose(token, method, rtol=1e-10, atol=1e-11)


def test_attention_is_its_definition():
    """Attn_{P,Q}(Z) = P Z M (Z^T Q Z) with the matrices written out, B included."""
    from lfombench.solvers.attention import attention, read, summary

    generator = torch.Generator().manual_seed(3)
    d, n = 3, 4
    A, B = torch.randn(2, 1, d, d, generator=generator).double()
    Z = torch.randn(1, d + 1, n + 1, 2, generator=generator).double()
    for given in (None, B):
        P, Q = torch.zeros(2, d + 1, d + 1).double()
        P[d, d] = 1
        if given is not None:
            P[:d, :d] = given[0]
        Q[:d, :d] = -A[0].T
        M = torch.diag(torch.tensor([1.0] * n + [0.0])).double()
        for p in range(2):
            z = Z[0, :, :, p]
            expected = P @ z @ M @ (z.T @ Q @ z)
            if given is None:
                X, y = Z[:, :-1], Z[:, -1]
                assert torch.all(expected[:d] == 0)
                assert torch.allclose(read(A, X, summary(X, y))[0, :, p], expected[d])
            else:
                assert torch.allclose(attention(A, Z, given)[0, :, :, p], expected)


def test_gd_plus_plus_without_its_second_matrix_is_the_linear_transformer():
    given = examples(LinearRegression(d=5, n=8, spectrum=FIGURE_1.spectrum), 6)
    A = 0.3 * torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(1)).double()
    ours = GdPlusPlus(depth=3).predictions({"A": A, "B": torch.zeros_like(A)}, given.tokens())
    theirs = LinearTransformer(depth=3, preconditioner="full").predictions({"A": A}, given.tokens())
    for y, z in zip(ours, theirs, strict=True):
        assert torch.allclose(y, z, rtol=1e-10, atol=1e-12)


def test_gd_plus_plus_is_gradient_descent_on_covariates_it_transforms():
    """von Oswald et al.: X_{l+1} = (I - B G_l A^T) X_l and y <- y - X^T A (..): the layer on transformed data."""
    given = examples(LinearRegression(d=3, n=9), 4)
    A, B = 0.2 * torch.randn(2, 2, 2, 3, 3, generator=torch.Generator().manual_seed(2)).double()
    y = list(GdPlusPlus(depth=2).predictions({"A": A, "B": B}, given.tokens()))
    for job in range(2):
        for p in range(4):
            X, labels = given.X[job, :, :, p], given.y[job, :, p]
            query, guess = given.query[job, :, p], torch.zeros((), dtype=torch.float64)
            for l in range(2):
                G, b = X @ X.T / 9, X @ labels / 9  # of what the labels still lack
                step, turn = A[job, l] @ b, torch.eye(3) - B[job, l] @ G @ A[job, l].T
                labels, guess = labels - X.T @ step, guess + query @ step
                X, query = turn @ X, turn @ query
                assert torch.allclose(y[l + 1][job, p], guess, rtol=1e-9, atol=1e-12)
