"""Classical methods and bounds against SciPy, NumPy, autograd and their theorems."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import optimize
from scipy.special import eval_chebyt

from lfombench.harness.compiler.streams import Streams, keys
from lfombench.solvers import (
    Bayes,
    BestKrylov,
    Chebyshev,
    ConjugateGradient,
    GradientDescent,
    HeavyBall,
    LBfgs,
    Memformer,
    Nesterov,
    Newton,
    Ridge,
    coefficients_of,
)
from lfombench.solvers.algebra import solve
from lfombench.tasks import CATALOG, LinearRegression, LogisticRegression, Prompts, apply

CPU = torch.device("cpu")
FIGURE_1: Any = CATALOG["figure_1"]


def drawn(task, prompts: int, *, full: bool = False) -> Any:
    frame = task.frame(Streams(keys([("frame",)], CPU), torch.float64))
    random = Streams(keys([("x",)], CPU), torch.float64)
    return task.examples(random, frame, prompts) if full else task.prompts(random, frame, prompts)


def errors(solver, prompts: Prompts) -> torch.Tensor:
    return torch.stack([prompts.squared_error(w) for w in solver.iterates({}, prompts.problem)]).squeeze(1)


@pytest.mark.parametrize("preconditioner", ["identity", "covariance", "jacobi"])
def test_preconditioned_conjugate_gradients_are_exact_after_d_steps(preconditioner):
    found = errors(ConjugateGradient(depth=7, preconditioner=preconditioner), drawn(FIGURE_1, 500))
    assert found[4].max() > 1e-6
    assert found[5:].max() < 1e-12


def test_conjugate_gradients_that_know_sigma_are_those_of_the_isotropic_problem():
    """With M = Sigma^{-1}, where Sigma = I: the losses of isotropic prompts, prompt for prompt."""
    known = drawn(LinearRegression(d=5, n=20, spectrum=FIGURE_1.spectrum, rotation="none"), 50)
    plain = drawn(LinearRegression(d=5, n=20, rotation="none"), 50)
    assert torch.allclose(
        errors(ConjugateGradient(depth=4, preconditioner="covariance"), known),
        errors(ConjugateGradient(depth=4), plain),
        rtol=1e-6,
    )


@pytest.mark.parametrize("memory", [1, 2, 5])
def test_l_bfgs_with_exact_line_search_is_conjugate_gradients(memory):
    """Nazareth (1979)."""
    prompts = drawn(FIGURE_1, 100)
    ours = LBfgs(depth=5, memory=memory).iterates({}, prompts.problem)
    for w, v in zip(ours, ConjugateGradient(depth=5).iterates({}, prompts.problem), strict=True):
        assert torch.allclose(w, v, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("depth", [1, 2, 3, 6])
def test_the_residual_polynomial_of_chebyshev_is_chebyshevs(depth):
    """p_k(x) = T_k((mu + L - 2x) / (L - mu)) / T_k((mu + L) / (L - mu))."""
    mu, L = 0.2, 3.0
    at = np.linspace(0.1, 3.5, 40)
    x = torch.tensor(at)
    *_, w = Chebyshev(depth=depth, interval=(mu, L)).iterates({}, spectrum(x))
    expected = eval_chebyt(depth, (mu + L - 2 * at) / (L - mu)) / eval_chebyt(depth, (mu + L) / (L - mu))
    assert np.allclose(1 - w[0, 0], expected)


def spectrum(x: torch.Tensor):
    """Problems in R^1, one for each eigenvalue, with w* = 1: then 1 - w_k is the residual polynomial."""
    from lfombench.tasks import Law, Quadratic

    return Quadratic(Law(root=torch.ones(1, 1, 1, 1).double()), x[None, None, None], x[None, None])


def test_by_theory_no_step_or_momentum_is_better_in_the_worst_case():
    """On [mu, L]: gradient descent's 2 / (mu + L) after a step, heavy ball's rate after many (Polyak, 1964)."""
    task = LinearRegression(d=5, n=20)
    law = drawn(task, 1).problem.law
    mu, L = law.edges[0].tolist()
    x = torch.linspace(mu, L, 200, dtype=torch.float64)

    def worst(solver) -> float:
        problem = spectrum(x)
        object.__setattr__(problem.law, "edges", law.edges)
        return (1 - [*solver.iterates({}, problem)][-1]).abs().max().item()

    best = worst(GradientDescent(depth=1, step="theory"))
    assert best == pytest.approx((L - mu) / (L + mu))
    for factor in (0.8, 0.95, 1.05, 1.2):
        assert worst(GradientDescent(depth=1, step=factor * 2 / (mu + L))) > best
    q = (L**0.5 - mu**0.5) / (L**0.5 + mu**0.5)
    early, late = (worst(HeavyBall(depth=k, step="theory", momentum="theory")) for k in (20, 40))
    assert (late / early) ** (1 / 20) == pytest.approx(q, rel=0.05)  # k q^k
    early, late = (worst(Nesterov(depth=k, step="theory", momentum="theory")) for k in (20, 40))
    assert (late / early) ** (1 / 20) == pytest.approx(1 - (mu / L) ** 0.5, rel=0.05)
    at_once = Chebyshev(depth=4, interval="theory")
    for rival in (GradientDescent(depth=4, step="theory"), HeavyBall(depth=4, step="theory", momentum="theory")):
        assert worst(at_once) < worst(rival)


def test_nesterov_as_it_is_written_elsewhere():
    """v+ = beta v - eta grad(w + beta v), w+ = w + v+: the notebooks' form."""
    prompts, eta, beta = drawn(FIGURE_1, 20), 0.5, 0.9
    w = v = prompts.problem.start()
    for ours in list(Nesterov(depth=4, step=eta, momentum=beta).iterates({}, prompts.problem))[1:]:
        v = beta * v - eta * prompts.problem.gradient(w + beta * v)
        w = w + v
        assert torch.allclose(ours, w)


def test_elimination_solves():
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(2, 4, 4, 7, generator=generator, dtype=torch.float64)
    M = (X.unsqueeze(1) * X.unsqueeze(2)).sum(3)
    v = torch.randn(2, 4, 7, generator=generator, dtype=torch.float64)
    expected = torch.linalg.solve(M.movedim(-1, 1), v.movedim(-1, 1)).movedim(1, -1)
    assert torch.allclose(solve(M, v), expected, rtol=1e-8)


@pytest.mark.parametrize(("d", "n"), [(3, 10), (5, 5), (6, 3)])
def test_least_squares_is_numpys_whether_there_are_enough_examples_or_not(d, n):
    examples = drawn(LinearRegression(d=d, n=n, noise=0.5), 6, full=True)
    *_, w = Ridge(depth=2).iterates({}, examples.problem())
    *_, v = Newton(depth=1).iterates({}, examples.problem())
    for p in range(6):
        X, y = examples.X[0, :, :, p].numpy().T, examples.y[0, :, p].numpy()
        expected = np.linalg.lstsq(X, y, rcond=None)[0]
        assert np.allclose(w[0, :, p], expected, rtol=1e-4, atol=1e-5)
        assert np.allclose(v[0, :, p], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("weights", ["inverse_covariance", "isotropic"])
def test_bayes_is_the_posterior_mean(weights):
    """Of w* given y, from the joint Gaussian's conditional expectation; and no other penalty does better."""
    task = LinearRegression(d=3, n=5, spectrum=(1.0, 0.5, 2.0), noise=0.7, weights=weights)
    examples = drawn(task, 4000, full=True)
    prompts = examples.prompts(sampled_query=False)
    *_, w = Bayes(depth=1).iterates({}, prompts.problem)
    root = examples.law.root[0, :, :, 0]
    prior = torch.linalg.inv(root @ root.T) if weights == "inverse_covariance" else torch.eye(3).double()
    for p in range(5):
        X = examples.X[0, :, :, p]
        gain = prior @ X @ torch.linalg.inv(X.T @ prior @ X + 0.49 * torch.eye(5).double())
        assert torch.allclose(w[0, :, p], gain @ examples.y[0, :, p])
    best = prompts.squared_error(w).mean()
    for penalty in (0.0, 0.03, 0.1, 0.3, 1.0):
        *_, v = Ridge(depth=1, penalty=penalty).iterates({}, prompts.problem)
        assert prompts.squared_error(v).mean() > best


@pytest.mark.parametrize("weights", ["inverse_covariance", "isotropic"])
def test_bayes_without_noise_is_the_likeliest_of_all_that_agree(weights):
    """With fewer examples than dimensions, C X (X^T C X)^{-1} y; by whitened conjugate gradients too, where C is
    Sigma^{-1}. What is left is (1 - n / d) of the error of predicting 0, in the mean, where w* is as likely in every
    direction of x.
    """
    task = LinearRegression(d=3, n=2, spectrum=(1.0, 0.5, 2.0), weights=weights)
    examples = drawn(task, 20_000, full=True)
    prompts = examples.prompts(sampled_query=False)
    zero, w = Bayes(depth=1).iterates({}, prompts.problem)
    root = examples.law.root[0, :, :, 0]
    prior = torch.linalg.inv(root @ root.T) if weights == "inverse_covariance" else torch.eye(3).double()
    for p in range(5):
        X = examples.X[0, :, :, p]
        expected = prior @ X @ torch.linalg.inv(X.T @ prior @ X) @ examples.y[0, :, p]
        assert torch.allclose(w[0, :, p], expected, rtol=1e-5, atol=1e-6)
    *_, v = ConjugateGradient(depth=2, preconditioner="covariance").iterates({}, prompts.problem)
    *_, shortest = Ridge(depth=1).iterates({}, prompts.problem)
    error = prompts.squared_error(w).mean().item()
    if weights == "inverse_covariance":
        assert torch.allclose(w, v, rtol=1e-4, atol=1e-4)
        assert error == pytest.approx(prompts.squared_error(zero).mean().item() / 3, rel=0.05)
        assert error < prompts.squared_error(shortest).mean() - 0.1
    else:
        assert torch.allclose(w, shortest, rtol=1e-4, atol=1e-4)  # rounding, 1e-16, over LIMIT, 1e-10
        assert error < prompts.squared_error(v).mean() - 0.1


def test_the_logistic_risk_is_its_definition():
    """Gradient and Hessian by autograd."""
    task = LogisticRegression(d=3, n=8)
    problem = drawn(task, 1, full=True).problem()
    X, y = problem.X[0, :, :, 0], problem.y[0, :, 0]
    assert set(y.tolist()) <= {-1.0, 1.0}

    def risk(w):
        return torch.nn.functional.softplus(-y * (X.T @ w)).mean()

    w = torch.randn(3, generator=torch.Generator().manual_seed(1)).double()
    expected = torch.autograd.functional.hessian(risk, w)
    w.requires_grad_()
    (gradient,) = torch.autograd.grad(risk(w), w)
    at = w.detach()[None, :, None]
    assert torch.allclose(problem.gradient(at)[0, :, 0], gradient)
    for i in range(3):
        axis = torch.eye(3).double()[i][None, :, None]
        assert torch.allclose(problem.curvature(axis, at)[0, :, 0], expected[i])


def test_newton_and_l_bfgs_find_the_logistic_minimum():
    examples = drawn(LogisticRegression(d=2, n=60), 3, full=True)
    for solver in (Newton(depth=8), LBfgs(depth=40)):
        *_, w = solver.iterates({}, examples.problem())
        for p in range(3):
            X, y = examples.X[0, :, :, p].numpy(), examples.y[0, :, p].numpy()
            best = optimize.minimize(lambda v, X=X, y=y: np.logaddexp(0, -y * (v @ X)).mean(), np.zeros(2), tol=1e-12)
            assert np.allclose(w[0, :, p], best.x, atol=1e-3)


def test_labels_follow_the_logistic_model():
    examples = drawn(LogisticRegression(d=3, n=4, strength=2.0), 20_000, full=True)
    logits = (examples.X * examples.w_star.unsqueeze(-2)).sum(1)
    for low, high in ((-4, -2), (-1, 0), (0.5, 1)):
        inside = (logits > low) & (logits < high)
        expected = torch.sigmoid(logits[inside]).mean()
        share = (examples.y[inside] > 0).double().mean()
        assert share.item() == pytest.approx(expected.item(), abs=0.02)


@pytest.mark.parametrize("preconditioner", ["identity", "covariance"])
def test_no_method_is_below_the_best_of_its_krylov_space(preconditioner):
    """Prompt for prompt; and the floor is 0 after d steps."""
    prompts = drawn(FIGURE_1, 2000)
    oracle = BestKrylov(depth=5, preconditioner=preconditioner)
    answers = oracle.answers(prompts.problem, prompts.problem.law.root, prompts.w_star)
    floor = torch.stack([prompts.squared_error(w) for w in answers]).squeeze(1)
    assert floor[5].max() < 1e-12
    rivals = [
        ConjugateGradient(depth=5, preconditioner=preconditioner),
        GradientDescent(depth=5, step="theory", preconditioner=preconditioner),
        HeavyBall(depth=5, step=0.3, momentum=0.5, preconditioner=preconditioner),
        Chebyshev(depth=5, interval="theory", preconditioner=preconditioner),
    ]
    for solver in rivals:
        assert torch.all(errors(solver, prompts) >= floor - 1e-9), solver


def test_conjugate_gradients_are_the_best_of_the_krylov_space_in_their_own_norm():
    """|w - w*|_G: no other combination of b, G b, ... has a smaller empirical risk, without noise."""
    prompts = drawn(FIGURE_1, 200)
    generator = torch.Generator().manual_seed(0)

    def energy(w):
        gap = w - prompts.w_star
        return (gap * apply(prompts.problem.G, gap)).sum(1)

    best = [energy(w) for w in ConjugateGradient(depth=4).iterates({}, prompts.problem)]
    for _ in range(50):
        params = {name: torch.rand(1, 4, generator=generator).double() for name in ("A", "alpha", "gamma")}
        params["gamma"] = params["gamma"][:, :3]
        rival = Memformer(depth=4, memory="cgd", preconditioner="scalar").iterates(params, prompts.problem)
        for k, w in enumerate(rival):
            assert torch.all(energy(w) >= best[k] - 1e-9)


@pytest.mark.parametrize(
    ("solver", "published"),
    [
        (HeavyBall(depth=4, step=0.095, momentum=0.9), (1.46, 1.24, 0.98, 0.77)),
        (Nesterov(depth=4, step=0.57, momentum=0.9), (0.92, 0.51, 0.28, 0.06)),
    ],
    ids=["heavy ball", "nesterov"],
)
def test_the_papers_momentum_is_on_the_sum_of_squares_over_19_examples(solver, published):
    """Steps of 0.005 and 0.03 on a sum are 19 times that on a mean. The paper's 1000 prompts differ by some 0.05."""
    prompts = drawn(LinearRegression(d=5, n=19, spectrum=FIGURE_1.spectrum), 100_000)
    assert errors(solver, prompts)[1:].mean(1).log().tolist() == pytest.approx(published, abs=0.06)


def test_coefficients_of_gradient_descent():
    Gamma = coefficients_of(GradientDescent(depth=3, step=0.5), {})
    assert torch.equal(Gamma[0], -0.5 * torch.ones(3, 3).double().tril())
