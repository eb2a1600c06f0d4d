"""The paper's values beside ours, over redraws of its prompts."""

from __future__ import annotations

import pytest

from lfombench.analysis.paper import beside_paper
from lfombench.analysis.published import FIGURE_1
from lfombench.analysis.report import render
from lfombench.analysis.results import Tables, sweeps
from lfombench.harness.store.store import Store
from tests.stores import add, by_hand, redrawn


@pytest.mark.parametrize(("shift", "verdict"), [(0.0, "inside"), (-1.0, "outside")])
def test_a_published_value_lies_inside_the_redraws_or_not(tmp_path, shift, verdict):
    rows = [redrawn("conjugate_gradient", 1, 0, draw, 0.6 + 0.02 * draw + shift) for draw in range(10)]
    out = by_hand(tmp_path, rows)
    [one] = beside_paper(Tables(out), sweeps(out))
    assert (one.row.figure, one.depth, one.value) == ("1a", 1, 0.73)
    assert one.verdict == verdict
    assert one.ours.redraws == 10
    assert verdict in render(out, sweeps(out))


def test_one_redraw_is_no_range(tmp_path):
    out = by_hand(tmp_path, [redrawn("conjugate_gradient", 1, 0, 3, 0.6)])
    [one] = beside_paper(Tables(out), sweeps(out))
    assert one.verdict == "undecided"
    html = render(out, sweeps(out))
    assert "is no range" in html
    assert "0.60 to 0.60" not in html


def test_a_value_outside_is_explained_by_the_run_that_toggles_its_quirk(tmp_path):
    """Ten prompts: 20 redraws miss the paper's value, 200 more reach it; only those of the first kind are ours."""
    named = {"protocol": ""}
    rows = []
    for draw in (*range(20), *range(1000, 1010)):
        named["protocol"] = f"published(batch=10, data_seed={draw}, test_on=training)"
        loss = -1.2 if draw == 1005 else 0.1
        rows.append(redrawn("conjugate_gradient", 1, 0, draw, loss, **named))
    out = by_hand(tmp_path, rows)
    [one] = [one for one in beside_paper(Tables(out), sweeps(out)) if one.depth == 1]
    assert one.verdict == "explained"
    assert (one.ours.low, one.ours.redraws, one.toggled.low, one.toggled.redraws) == (0.1, 20, -1.2, 30)
    assert one.quirk.why in render(out, sweeps(out))


def test_the_bound_beside_a_number_is_that_of_its_kind_on_fresh_prompts(tmp_path):
    """A job that is tested on its training prompts has no floors; the same solver's rigorous job has."""
    scalar = "memformer(memory=cgd, preconditioner=scalar)"
    limits = {"best_lfom(preconditioner=identity)": 0.81, "best_lfom(preconditioner=covariance)": 0.14}
    rows = [
        redrawn(name, 1, 0, 0, loss, protocol="rigorous", family="bound", job=f"{name} rigorous")
        for name, loss in limits.items()
    ]
    rows += [
        redrawn(scalar, 1, 0, 0, 0.8, protocol=protocol, job=f"scalar {protocol}")
        for protocol in ("rigorous", "published(batch=10, data_seed=0, test_on=training)")
    ]
    out = by_hand(tmp_path, rows)
    jobs = [
        {
            "job": row["job"],
            "task": FIGURE_1,
            "solver": row["solver"],
            "protocol": row["protocol"],
            "status": "done",
            "floors": ["best_lfom(preconditioner=identity)"] if row["job"] == "scalar rigorous" else [],
        }
        for row in rows
    ]
    add(Store(out), jobs=jobs)
    numbers = beside_paper(Tables(out), sweeps(out))
    found = [one for one in numbers if one.row.figure == "4b" and one.depth == 1 and one.ours]
    assert [one.bound for one in found] == [("best_lfom(preconditioner=identity)", 0.81)]
