"""What was learned, and losses along an axis, from small runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from scipy.special import eval_chebyt

from lfombench.analysis.axis import along
from lfombench.analysis.learned import portraits
from lfombench.analysis.report import render
from lfombench.analysis.results import Tables, sweeps, table
from lfombench.harness import PROTOCOLS, Sweep, run
from lfombench.solvers import (
    BestLfom,
    Chebyshev,
    ConjugateGradient,
    GradientDescent,
    HeavyBall,
    LinearTransformer,
    Ridge,
)
from lfombench.tasks import LinearRegression

QUICK = replace(
    PROTOCOLS["rigorous"],
    steps=600,
    cycle=None,
    plateau=None,
    halving=None,
    batch=128,
    learning_rates=(0.05,),
    validation_prompts=512,
    test_prompts=2048,
)


@pytest.fixture(scope="module")
def known(tmp_path_factory) -> str:
    """A store in which a scalar linear transformer is trained beside classical methods, along the noise."""
    out = str(tmp_path_factory.mktemp("known"))
    sweep = Sweep(
        name="known",
        tasks=[LinearRegression(d=3, n=12, noise=noise) for noise in (0.0, 0.5)],
        protocols=[QUICK],
        seeds=range(2),
        axis="task.noise",
        split=["solver.depth", "solver.preconditioner"],
        solvers=[
            ConjugateGradient(depth=2),
            GradientDescent(depth=2, step=0.5),
            GradientDescent(depth=2, step=0.5, preconditioner="covariance"),
            HeavyBall(depth=2, step=0.5, momentum=0.3),
            Chebyshev(depth=2, interval=(0.3, 2.0)),
            LinearTransformer(depth=2, preconditioner="scalar"),
            BestLfom(depth=2, preconditioner="identity"),
            Ridge(depth=2),
        ],
    )
    assert run(sweep, out, workers=0, mlflow="off").exit_code == 0
    return out


def found(out: str):
    [sweep] = sweeps(out)
    return {
        one.solver: one for one in portraits(Tables(out), sweep, "linear_regression(d=3, n=12)", sweep.protocols[0])
    }


def test_residual_polynomials_of_classical_methods_are_theirs(known):
    """Gradient descent (1 - x/2)^2; heavy ball by its recurrence; Chebyshev's; conjugate gradients have none."""
    by = found(known)
    x = np.linspace(0, 2.5, 50)
    assert np.allclose(by["gradient_descent(step=0.5)"].values(x), (1 - x / 2) ** 2)
    heavy = (1 - x / 2) * (1 - x / 2) + 0.3 * ((1 - x / 2) - 1)
    assert np.allclose(by["heavy_ball(step=0.5, momentum=0.3)"].values(x), heavy)
    mu, L = 0.3, 2.0
    expected = eval_chebyt(2, (mu + L - 2 * x) / (L - mu)) / eval_chebyt(2, (mu + L) / (L - mu))
    assert np.allclose(by["chebyshev(interval=[0.3, 2])"].values(x), expected)
    assert all(one.polynomial[0] == pytest.approx(1) for one in by.values())
    assert "conjugate_gradient" not in by


def test_a_trained_model_is_placed_beside_its_bound_and_its_nearest_neighbour(known):
    """Its roots are 1 / A_l; it comes close to the best polynomial."""
    by = found(known)
    model, best = by["linear_transformer(preconditioner=scalar)"], by["best_lfom(preconditioner=identity)"]
    assert sorted(1 / a for a in model.numbers["A"]) == pytest.approx(sorted(r.real for r in model.roots), rel=0.15)
    x = np.linspace(0.2, 2, 50)
    assert np.abs(model.values(x) - best.values(x)).max() < 0.05
    assert model.nearest[0] in by
    assert model.nearest[0] != "gradient_descent(step=0.5, preconditioner=covariance)"  # a polynomial in another matrix
    gaps = {name: np.abs(one.values(x) - model.values(x)).mean() for name, one in by.items() if one.known == "identity"}
    assert gaps[model.nearest[0]] <= gaps["gradient_descent(step=0.5)"]
    assert best.nearest is None


def test_steps_of_conjugate_gradients_are_conjugate_and_of_gradient_descent_are_not(known):
    rows = (
        table(known, "results").filter(pl.col("step") == 2).group_by("solver").agg(pl.col("conjugacy").mean()).collect()
    )
    by = dict(rows.iter_rows())
    assert by["conjugate_gradient"] < 1e-10
    assert by["gradient_descent(step=0.5)"] > 0.5


def test_losses_along_an_axis(known):
    [sweep] = sweeps(known)
    line = along(Tables(known), sweep)
    assert (line.name, line.depth, line.values) == ("noise", 2, [0.0, 0.5])
    full, scalar = ({row["solver"]: row for row in line.rows(chart)} for chart in line.charts)
    assert set(full) == {"gradient_descent(step=0.5)", "ridge"}  # ridge has no preconditioner, so it is in both
    assert len(scalar) == 7
    assert scalar["conjugate_gradient"]["means"][0.0] < scalar["conjugate_gradient"]["means"][0.5]
    assert not scalar["best_lfom"]["competes"]
    assert line.charts == ["depth: 2, preconditioner: full", "depth: 2, preconditioner: scalar"]
    html = render(known, sweeps(known))
    assert "Against noise" in html
    assert "What was learned" in html
    assert "The boards of each noise" in html
