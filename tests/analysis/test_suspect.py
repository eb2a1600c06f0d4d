"""What is suspect: what beats its bound and not what is lucky, or nearly as good as a bound that none can beat."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from lfombench.analysis.assemble import boards
from lfombench.analysis.report import render
from lfombench.analysis.results import Tables, sweeps, table
from lfombench.harness import PROTOCOLS, Sweep, run
from lfombench.solvers import BestLfom, Memformer
from lfombench.tasks import LinearRegression
from tests.stores import by_hand, redrawn


@pytest.mark.slow
def test_few_prompts_make_no_model_suspect(tmp_path):
    """Blocks of a thousand prompts agree, by many standard errors, that some models beat what none can."""
    deep = 4
    sweep = Sweep(
        name="few",
        tasks=[LinearRegression(d=5, n=20, spectrum=(1, 1, 0.5, 0.25, 1))],
        solvers=[
            BestLfom(preconditioner="identity", depth=deep),
            Memformer(memory="cgd", preconditioner="scalar", depth=deep),
        ],
        protocols=[replace(PROTOCOLS["rigorous"], steps=500, learning_rates=(0.03,), test_prompts=1024)],
        seeds=range(40),
    )
    out = str(tmp_path / "out")
    assert run(sweep, out, workers=0, mlflow="off").exit_code == 0
    rows = table(out, "results").filter(pl.col("step") == deep).collect().sort("seed")
    model, bound = (np.array(rows.filter(family=family)["blocks"].to_list()) for family in ("learned", "bound"))
    gap = model - bound
    t = gap.mean(1) / (gap.std(1, ddof=1) / np.sqrt(gap.shape[1]))
    assert (t < -5).any()
    assert gap.mean() > 0
    assert boards(Tables(out), sweeps(out)[0]).suspects == []


def test_what_beats_its_bound_is_suspect_and_what_is_lucky_is_not(tmp_path):
    generator = np.random.default_rng(0)
    limit = generator.chisquare(1, 64)
    noise = generator.normal(0, 0.3, 64)
    kinds = {
        "honest": limit + 0.1,
        "lucky": limit + noise - noise.mean() - 0.05,  # below, but by less than its spread allows
        "too good": limit - 0.2 + 0.01 * noise,
        "unrelated": limit - 0.2 + 0.01 * noise,
        "best_lfom(preconditioner=identity)": limit,
    }
    rows = [
        redrawn(
            name,
            1,
            0,
            0,
            float(np.log(max(blocks.mean(), 1e-9))),
            blocks=blocks.tolist(),
            family="bound" if "best" in name else "classical",
        )
        for name, blocks in kinds.items()
    ]
    floors = {name: ["best_lfom(preconditioner=identity)"] for name in ("honest", "lucky", "too good")}
    out = by_hand(tmp_path, rows, floors)
    found = boards(Tables(out), sweeps(out)[0])
    assert found.suspects == ["published: too good at depth 1 is below best_lfom(preconditioner=identity)"]
    assert "Suspect: published: too good" in render(out, sweeps(out))
    assert found.as_json()["suspects"] == found.suspects


@pytest.mark.parametrize(
    ("fit_error", "fitted", "expected"), [(None, 0, 1), (1e-3, 2000, 1), (0.02, 2000, 0), (1e-3, 20_000, 0)]
)
def test_a_bound_grants_what_its_own_fit_may_lack_and_would_gain_from_the_tests_prompts(
    tmp_path, fit_error, fitted, expected
):
    limit = np.random.default_rng(0).chisquare(1, 64)
    rows = [
        redrawn("best_lfom", 1, 0, 0, 0.0, blocks=limit.tolist(), family="bound", fit_error=fit_error),
        redrawn("good", 1, 0, 0, 0.0, blocks=(limit - 0.1).tolist()),
    ]
    out = by_hand(tmp_path, rows, {"good": ["best_lfom"]}, fitted)
    assert len(boards(Tables(out), sweeps(out)[0]).suspects) == expected


def test_a_fitted_bound_bounds_nothing_on_another_task(tmp_path):
    limit = np.random.default_rng(0).chisquare(1, 64)
    rows = [
        redrawn(name, 1, 0, 0, 0.0, test="shifted", blocks=blocks.tolist(), family=family)
        for name, blocks, family in (
            ("good", limit / 2, "classical"),
            ("best_lfom(preconditioner=identity)", limit, "bound"),
            ("bayes", limit, "bound"),
        )
    ]
    fitted = by_hand(tmp_path, rows, {"good": ["best_lfom(preconditioner=identity)"]})
    assert boards(Tables(fitted), sweeps(fitted)[0]).suspects == []
    told = by_hand(tmp_path / "told", rows, {"good": ["bayes"]})
    assert boards(Tables(told), sweeps(told)[0]).suspects == ["published: good at depth 1 is below bayes"]
