"""Solvers across tasks, against SciPy."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from lfombench.analysis.across import across, iqm
from lfombench.analysis.assemble import boards
from lfombench.analysis.losses import outcomes
from lfombench.analysis.results import Tables, sweeps
from tests.commands import lfombench
from tests.stores import by_hand, redrawn

GOOD, BAD, OTHER = "good", "bad", "other"


def made(tmp_path, tasks, lost=False):
    """`good` is better than `bad` everywhere; `other` differs by task. By seed, the losses; and the store."""
    generator = np.random.default_rng(0)
    rows, losses = [], {}
    for t in range(tasks):
        for solver, mean in ((GOOD, -2.0), (BAD, 0.0), (OTHER, 3.0 * (-1) ** t)):
            for seed in range(4):
                loss = mean + t + 0.1 * float(generator.normal())
                losses[solver, t, seed] = loss
                common = {"task": f"t{t}", "test": f"t{t}", "protocol": "p", "job": f"{solver}-{t}-{seed}"}
                zero = {"mse_normalised": float(np.exp(loss - t))}
                at_start = {"log_mse": float(t), "mse_normalised": 1.0}
                rows.append(redrawn(solver, 0, seed, 0, loss) | common | at_start)
                rows.append(redrawn(solver, 1, seed, 0, loss) | common | zero)
    if lost:
        rows[-1] |= {"log_mse": None, "mse": None, "status": "diverged"}
    return losses, by_hand(tmp_path, rows)


def totals(out):
    tables, [manifest] = Tables(out), sweeps(out)
    [one] = across(tables, boards(tables, manifest), outcomes(tables, manifest))
    return one, {total.solver: total for total in one.totals}


def test_numbers_are_scipys(tmp_path):
    losses, out = made(tmp_path, 4)
    one, by = totals(out)
    means = np.array([[np.mean([losses[s, t, k] for k in range(4)]) for t in range(4)] for s in (GOOD, BAD, OTHER)])
    ranks = stats.rankdata(means, axis=0).mean(1)
    assert [by[s].mean_rank for s in (GOOD, BAD, OTHER)] == pytest.approx(ranks.tolist())
    assert [total.mean_rank for total in one.totals] == sorted(total.mean_rank for total in one.totals)
    for solver in (GOOD, BAD, OTHER):
        normalised = [losses[solver, t, k] - t for t in range(4) for k in range(4)]
        assert by[solver].iqm == pytest.approx(stats.trim_mean(normalised, 0.25))
    each = []
    for other in (BAD, OTHER):
        for t in range(4):
            mine, theirs = ([losses[s, t, k] for k in range(4)] for s in (GOOD, other))
            each.append(stats.mannwhitneyu(theirs, mine).statistic / 16)
    assert by[GOOD].improvement == pytest.approx(np.mean(each))
    assert by[BAD].leads == 0
    assert by[GOOD].leads + by[OTHER].leads == 4
    assert not one.tested
    assert by[GOOD].beats == ()


def test_few_tasks_are_not_tested_and_many_are(tmp_path):
    _, out = made(tmp_path, 8)
    one, by = totals(out)
    assert one.tested
    assert by[GOOD].beats == (BAD,)
    assert by[OTHER].beats == ()
    shown = lfombench("board", "--out", out).stdout
    assert "p, across 8 tasks" in shown
    assert "Wilcoxon" in shown
    [values] = json.loads(lfombench("board", "--out", out, "--json").stdout)
    assert values["across"][0]["totals"][0]["solver"] == one.totals[0].solver


def test_a_lost_seed_is_the_worst_case(tmp_path):
    _, out = made(tmp_path, 3, lost=True)
    _, by = totals(out)
    assert by[OTHER].worst == np.inf
    assert by[OTHER].worst_on == "t2"
    assert np.isfinite(by[OTHER].iqm)
    assert "lost" in lfombench("board", "--out", out).stdout
    json.loads(lfombench("board", "--out", out, "--json").stdout, parse_constant=pytest.fail)


def test_the_middle_half():
    assert iqm(np.array([np.inf, 0.0, 1.0, 2.0, 3.0, -90.0, 1.0, 1.0])) == pytest.approx(1.25)
