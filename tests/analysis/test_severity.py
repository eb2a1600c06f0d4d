"""Solvers against each other along an axis: who is better where, where that changes, what transfers."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from lfombench.analysis.assemble import boards
from lfombench.analysis.axis import Along, Point, along
from lfombench.analysis.losses import EXACT
from lfombench.analysis.overview import overview
from lfombench.analysis.report import render
from lfombench.analysis.results import Tables, sweeps, table
from lfombench.analysis.severity import area, crossings, duels, standings
from lfombench.analysis.transfer import matrices
from lfombench.harness import PROTOCOLS, Sweep, run
from lfombench.harness.spec.labels import label
from lfombench.harness.spec.protocol import Expert
from lfombench.harness.store.maintenance import rewrite
from lfombench.harness.store.store import Store
from lfombench.solvers import ConjugateGradient, GradientDescent, LinearTransformer, Mixture
from lfombench.tasks import LinearRegression

QUICK = replace(PROTOCOLS["adapted"], steps=3, batch=8, test_prompts=4096)
TASK = LinearRegression(d=3, n=12)
NOISE = (0.0, 1.0, 4.0)


@pytest.fixture(scope="module")
def known(tmp_path_factory) -> str:
    """Conjugate gradients against short steps, along the noise: the one is exact without noise, the others damp it.
    Beside them an expert of either end.
    """
    out = str(tmp_path_factory.mktemp("severity"))
    trained = replace(PROTOCOLS["published"], steps=40, batch=64, test_prompts=64)
    model = LinearTransformer(depth=3, preconditioner="scalar")
    experts = [Expert(solver=model, task=replace(TASK, noise=x), protocol=trained) for x in (0.0, 4.0)]
    fixed = [GradientDescent(depth=3, step=x) for x in (0.1, 0.4)]
    both = Mixture(depth=3, experts=tuple(experts))
    sweep = Sweep(
        name="known",
        tasks=[replace(TASK, noise=noise) for noise in NOISE],
        protocols=[QUICK],
        seeds=range(3),
        axis="task.noise",
        solvers=[ConjugateGradient(depth=3), *fixed, both, model],
        named={"fixed": [label(one) for one in fixed], "krylov": ["conjugate_gradient"]}
        | {"mixture": [label(both)], "few": [label(model)]},
        crossover=["fixed", "krylov"],
    )
    assert run(sweep, out, workers=0, mlflow="off").exit_code == 0
    return out


@pytest.fixture(scope="module")
def line(known) -> Along:
    found = along(Tables(known), sweeps(known)[0])
    assert found is not None
    return found


def test_the_order_in_which_jobs_were_committed_shows_nowhere(known, line, tmp_path):
    shutil.copytree(known, tmp_path / "turned")
    store = Store(str(tmp_path / "turned"))
    for name in ("results", "jobs"):
        files = store.snapshot.files[name]
        assert rewrite(store, name, files, lambda rows: rows.take(list(range(len(rows)))[::-1]))
    [wanted] = sweeps(store.out)
    turned = along(Tables(store.out), wanted)
    assert turned.data.equals(line.data)
    assert turned.rows("") == line.rows("")
    assert boards(Tables(store.out), wanted).as_json() == boards(Tables(known), wanted).as_json()


def test_of_several_the_best_counts_at_each_value(known, line):
    rows = (
        table(known, "results").filter(pl.col("solver").str.starts_with("gradient") & (pl.col("step") == 3)).collect()
    )
    means = rows.group_by("task", "solver").agg(pl.col("log_mse").mean())
    for x in NOISE:
        mine = means.filter(pl.col("task") == label(replace(TASK, noise=x)))
        point = line.points_of("", "fixed")[x]
        assert point.mean == pytest.approx(mine["log_mse"].min())
        assert point.label == mine.sort("log_mse")["solver"][0]
    assert {point.label for point in line.points_of("", "fixed").values()} == {
        "gradient_descent(step=0.1)",
        "gradient_descent(step=0.4)",
    }
    assert set(line.data["solver"]) == {"fixed", "krylov", "mixture", "few"}
    few = table(known, "results").filter((pl.col("protocol") == label(QUICK)) & (pl.col("step") == 3)).collect()
    few = few.filter(pl.col("solver").str.starts_with("linear"))
    mean = few.filter(pl.col("task") == label(TASK))["log_mse"].mean()
    assert line.points_of("", "few")[0.0].mean == pytest.approx(mean)  # and not the expert's of the same label
    assert list(line.trained) == [0.0, 4.0]


def test_differences_are_paired_by_seed(known, line):
    rows = table(known, "results").filter(pl.col("step") == 3).collect()
    losses = {(r["solver"], r["task"], r["seed"]): max(r["log_mse"], EXACT) for r in rows.iter_rows(named=True)}
    for one in duels(line, "", "fixed", "krylov"):
        task = label(replace(TASK, noise=one.x))
        mine = line.points_of("", "fixed")[one.x].label
        each = np.array([losses[mine, task, s] - losses["conjugate_gradient", task, s] for s in range(3)])
        assert one.mean == pytest.approx(each.mean())
        assert one.half_width == pytest.approx(4.302653 * each.std(ddof=1) / math.sqrt(3), rel=1e-5)


def test_one_crossing_is_found_and_said(known, line):
    found = duels(line, "", "fixed", "krylov")
    assert [one.verdict for one in found][::2] == ["worse", "better"]
    [cross] = crossings(found)
    assert cross.low.x < cross.at < cross.high.x
    [over] = overview(Tables(known), sweeps(known)[0])
    assert over.brackets == [tuple(label(replace(TASK, noise=x)) for x in (cross.low.x, cross.high.x))]
    assert over.best.x == 4.0
    assert over.outside(5.0)
    assert not over.outside(1.0)
    html = render(known, sweeps(known))
    assert "fixed against krylov" in html
    assert "Dotted: where experts were trained" in html
    assert "Transfer of linear_transformer" in html


def test_experts_are_tested_everywhere(known):
    [matrix] = matrices(Tables(known), sweeps(known)[0])
    assert matrix.trained == [0.0, 4.0]
    assert matrix.tested == list(NOISE)
    assert matrix.regret(0.0, 4.0) > 0.05  # what never saw noise does not damp it
    assert matrix.regret(0.0, 0.0) == 0
    assert matrix.regret(0.0, 1.0) is None  # nothing was trained there


def made(**means: dict[float, float]) -> Along:
    points = [
        Point("", x, name, name, "learned", 1, {0: mean, 1: mean}, "t")
        for name, row in means.items()
        for x, mean in row.items()
    ]
    return Along("x", 1, points, [])


def test_the_worst_case_and_the_area_beneath():
    line = made(a={0.0: 1.0, 1.0: 3.0, 3.0: 0.0}, b={0.0: 2.0, 1.0: 2.0, 3.0: 2.0, 9.0: 7.0})
    first, second = standings(line, "")
    assert (first.solver, first.worst, first.worst_at, first.area) == ("b", 2.0, 0.0, 2.0)  # 9 is not for both
    assert (second.solver, second.worst, second.worst_at) == ("a", 3.0, 1.0)
    assert second.area == pytest.approx((2.0 * 1 + 1.5 * 2) / 3)


def test_to_diverge_is_the_worst_case():
    line = made(a={0.0: 1.0, 1.0: 3.0}, b={0.0: 2.0, 1.0: 2.0})
    [point] = [one for one in line.points if (one.solver, one.x) == ("b", 1.0)]
    lost = [replace(one, losses={0: 2.0, 1: math.inf}) if one is point else one for one in line.points]
    first, second = standings(replace(line, points=lost), "")
    assert (first.solver, first.worst, first.diverged) == ("a", 3.0, False)
    assert (second.worst_at, second.area, second.diverged) == (1.0, None, True)


def test_a_seed_that_diverges_is_not_left_out(tmp_path):
    wild = GradientDescent(depth=40, step=1e9)  # beyond all floats
    sweep = Sweep(
        name="wild",
        tasks=[replace(TASK, noise=noise) for noise in NOISE],
        protocols=[QUICK],
        seeds=range(2),
        axis="task.noise",
        solvers=[replace(wild, step=0.1), wild],
        named={"tame": [label(replace(wild, step=0.1))], "wild": [label(wild)]},
    )
    run(sweep, str(tmp_path), workers=0, mlflow="off")
    line = along(Tables(str(tmp_path)), sweeps(str(tmp_path))[0])
    assert {point.lost for point in line.points if point.solver == "tame"} == {0}
    assert [one.diverged for one in standings(line, "")] == [False, True]
    assert "diverged" in render(str(tmp_path), sweeps(str(tmp_path)))


def test_who_lost_every_seed_is_worse_than_who_predicts_well():
    """Whatever the spread of the other: it counts as predicting 0 at least."""
    line = made(a={1.0: -3.0}, b={1.0: -3.0})
    lost = {seed: math.inf for seed in range(5)}
    found = {seed: -3.0 + 0.1 * (-1) ** seed for seed in range(5)}
    points = [replace(line.points[0], losses=lost, zero=1.0), replace(line.points[1], losses=found)]
    [one] = duels(replace(line, points=points), "", "a", "b")
    assert one.verdict == "worse"


def test_a_crossing_may_pass_through_a_tie_but_not_through_rounding():
    [cross] = crossings(duels(made(a={1.0: 0.0, 2.0: 1.0, 3.0: 2.0}, b={1.0: 1.0, 2.0: 1.0, 3.0: 1.0}), "", "a", "b"))
    assert (cross.low.x, cross.high.x, cross.at) == (1.0, 3.0, pytest.approx(math.sqrt(3)))
    tiny = duels(made(a={1.0: -62.0, 2.0: -3.0}, b={1.0: -58.0, 2.0: -4.0}), "", "a", "b")
    assert [one.mean for one in tiny] == [0.0, 1.0]
    assert not crossings(tiny)


def test_what_is_trained_elsewhere_on_another_field_is_another_matrix(tmp_path):
    model = LinearTransformer(depth=1, preconditioner="scalar")
    trained = replace(PROTOCOLS["published"], steps=3, batch=8, test_prompts=64)
    tasks = [replace(TASK, noise=noise, n=n) for n in (6, 12) for noise in (0.0, 4.0)]
    sweep = Sweep(
        name="split",
        tasks=tasks,
        tests=tasks,
        protocols=[trained, replace(trained, steps=4)],
        seeds=range(1),
        axis="task.noise",
        split=["task.n"],
        solvers=[model],
    )
    run(sweep, str(tmp_path), workers=0, mlflow="off")
    results = table(str(tmp_path), "results").filter(pl.col("step") == 1).collect()
    losses = {(r["task"], r["test"], r["protocol"]): r["log_mse"] for r in results.iter_rows(named=True)}
    found = matrices(Tables(str(tmp_path)), sweeps(str(tmp_path))[0])
    assert len(found) == 4
    for matrix, (n, protocol) in zip(found, [(n, p) for n in (12, 6) for p in sweep.protocols], strict=True):
        assert f"n: {n}" in matrix.solver
        for (train, test), mean in matrix.means.items():
            names = [label(replace(TASK, noise=x, n=n)) for x in (train, test)]
            assert mean == pytest.approx(losses[(*names, label(protocol))])


def test_a_wide_axis_is_logarithmic():
    assert area({1.0: 0.0, 10.0: 1.0, 100.0: 1.0}) == pytest.approx(0.75)
    assert area({0.0: 0.0, 1.0: 1.0, 127.0: 1.0}) == pytest.approx((0.5 * 1 + 6) / 7)  # log2(1 + x)
    assert area({"a": 1.0, "b": 2.0}) is None


def test_without_a_spread_nothing_is_said():
    [one] = duels(made(a={1.0: 0.0}, b={1.0: 0.0}), "", "a", "b")
    assert one.verdict == "even"
