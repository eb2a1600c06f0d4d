"""Boards, intervals and reports, from stores made by hand and by runs."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from lfombench.analysis.board import _title, boards
from lfombench.analysis.comparison import compare
from lfombench.analysis.published import FIGURE_1, PUBLISHED, drawn, published, undrawn
from lfombench.analysis.report import render
from lfombench.analysis.results import NoStore, Tables, sweeps, table
from lfombench.analysis.statistics import mean_interval
from lfombench.harness import load
from lfombench.harness.store import schema
from lfombench.harness.store.store import Store


@pytest.mark.parametrize("values", [[1.0, 2.0], [0.3, 0.1, 0.7, 0.2], [5.0] * 3])
def test_interval_is_scipys(values):
    mean, half_width = mean_interval(values)
    assert mean == pytest.approx(np.mean(values))
    if len(set(values)) > 1:
        low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
        assert (mean - half_width, mean + half_width) == pytest.approx((low, high))
    else:
        assert half_width == 0


def test_one_value_has_no_interval():
    assert mean_interval([2.0]) == (2.0, None)


def test_the_interval_covers_as_often_as_it_says():
    generator = np.random.default_rng(0)
    samples = generator.normal(3.0, 2.0, (4000, 5))
    covered = [abs(mean - 3.0) <= half_width for mean, half_width in map(mean_interval, samples.tolist())]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.012)


def store(tmp_path, rows, jobs=None) -> str:
    """A store by hand: rows of (solver, family, depth, step, seed, log_mse)."""
    out = Store(str(tmp_path / "made"))
    out.create()
    filled = [
        {
            "job": f"{solver}-{depth}-{seed}",
            "task": "t",
            "test": "t",
            "protocol": "p",
            "solver": solver,
            "family": family,
            "depth": depth,
            "step": step,
            "seed": seed,
            "log_mse": loss,
            "params": depth,
            "status": "done" if loss is not None else "diverged",
        }
        for solver, family, depth, step, seed, loss in rows
    ]
    add(out, results=filled)
    ids = jobs or sorted({row["job"] for row in filled})
    wanted = {"name": "made", "about": "", "jobs": ids, "protocols": ["p"], "tests": [], "skipped": []}
    wanted |= {"axis": None, "split": [], "named": {}, "crossover": [], "parts": []}
    out.write("sweeps/made.json", json.dumps(wanted))
    return out.out


def add(store: Store, **tables) -> None:
    """Rows, as a driver would commit them."""
    store.add({name: pa.Table.from_pylist(rows, schema=schema.arrow(name)) for name, rows in tables.items()})


def test_a_board_ranks_by_the_deepest_shared_depth_and_takes_models_at_their_own(tmp_path):
    rows = [
        ("learned", "learned", depth, step, seed, -depth - step - seed / 10)
        for depth in (1, 2)
        for step in range(depth + 1)
        for seed in (0, 1)
    ]
    rows += [
        ("classic", "classical", 3, step, seed, -10.0 * (step == 3) - step / 2) for step in range(4) for seed in (0, 1)
    ]
    rows += [("limit", "bound", 2, step, 0, -9.0) for step in range(3)]
    out = store(tmp_path, rows)
    [wanted] = sweeps(out)
    found = boards(Tables(out), wanted)
    [board] = found.boards
    assert [row.solver for row in board.rows] == ["limit", "learned", "classic"]
    by = {row.solver: row for row in board.rows}
    assert {depth: cell.mean for depth, cell in by["learned"].cells.items()} == pytest.approx({1: -2.05, 2: -4.05})
    assert sorted(by["classic"].cells) == [1, 2, 3]
    assert by["learned"].cells[1].half_width == pytest.approx(12.706 * 0.05, rel=1e-3)
    assert board.leaders(2) == {"learned"}
    assert board.leaders(3) == {"classic"}
    assert board.depths == [1, 2, 3]
    assert not found.partial


def test_those_that_cannot_be_told_apart_lead_together(tmp_path):
    rows = [
        (name, "classical", 1, 1, seed, mean + seed / 10)
        for name, mean in (("a", 0.0), ("b", 0.1), ("c", 9.0))
        for seed in (0, 1)
    ]
    out = store(tmp_path, [*rows, ("limit", "bound", 1, 1, 0, -1.0)])
    assert boards(Tables(out), sweeps(out)[0]).boards[0].leaders(1) == {"a", "b"}


def test_a_board_says_what_is_missing_and_what_diverged(tmp_path):
    rows = [("a", "learned", 1, 1, seed, None if seed == 2 else 1.0) for seed in range(3)] + [
        ("b", "learned", 1, 1, 0, None)
    ]
    out = store(tmp_path, rows, jobs=["a-1-0", "a-1-1", "a-1-2", "b-1-0", "missing"])
    found = boards(Tables(out), sweeps(out)[0])
    assert found.partial
    assert (found.done, found.wanted) == (4, 5)
    assert [(row.solver, row.diverged, bool(row.cells)) for row in found.boards[0].rows] == [
        ("a", 1, True),
        ("b", 1, False),
    ]
    assert found.boards[0].rows[0].cells[1].seeds == 2
    assert found.diverged == 2


def test_many_depths_are_thinned(tmp_path):
    out = store(tmp_path, [("a", "classical", 40, step, 0, -float(step)) for step in range(41)])
    depths = boards(Tables(out), sweeps(out)[0]).boards[0].depths
    assert len(depths) == 8
    assert (depths[0], depths[-1]) == (1, 40)


def test_a_folder_without_results(tmp_path):
    with pytest.raises(NoStore, match="holds no results yet"):
        sweeps(str(tmp_path))


def test_every_published_value_is_of_a_job_that_ships():
    """Task, solver and protocol of each row, as `paper` runs them."""
    paper = load("paper")
    names = [job.case.names for job in paper.jobs()]
    known = {(one["task"], one["solver"], undrawn(one["protocol"])) for one in names}
    named = {name: labels for part in paper.parts for one in part.parts for name, labels in one.named.items()}
    for row in PUBLISHED:
        others = [one for one in (row.rigorous, *(row.controls or ())) if one]
        for solver, protocol in [(row.solver, row.protocol), *((one.solver, one.protocol) for one in others)]:
            for meant in named.get(solver, [solver]):
                assert (row.task, meant, protocol) in known, row.name
        if row.solver not in named:
            assert published(row.task, row.solver, row.protocol) == dict(enumerate(row.values, start=1))
        for quirk in row.quirks:
            assert (row.task, quirk.solver, quirk.protocol) in known, row.name
    assert published(FIGURE_1, "best_lfom(preconditioner=identity)", "published") == {}


@pytest.mark.parametrize(
    ("label", "without", "seed"),
    [
        ("published", "published", None),
        ("published(data_seed=3)", "published", 3),
        ("published(batch=10, data_seed=-12, test_on=training)", "published(batch=10, test_on=training)", -12),
        ("published(data_seed=3, dtype=float64)", "published(dtype=float64)", 3),
        ("published(batch=10, data_seed=3)", "published(batch=10)", 3),
    ],
)
def test_a_protocol_without_its_data_seed(label, without, seed):
    assert undrawn(label) == without
    assert drawn(label) == seed


def redrawn(solver: str, step: int, seed: int, draw: int, loss: float, **more) -> dict:
    """A row of a redraw of published prompts."""
    return {
        "job": f"{solver}-{step}-{seed}-{draw}",
        "task": FIGURE_1,
        "test": FIGURE_1,
        "protocol": f"published(data_seed={draw})",
        "solver": solver,
        "family": "classical",
        "depth": 4,
        "step": step,
        "seed": seed,
        "log_mse": loss,
        "mse": float(np.exp(loss)),
        "mse_normalised": 0.1,
        "prompts": 1000,
        "params": 0,
        "status": "done",
    } | more


def by_hand(tmp_path, rows, floors=None, fitted=0) -> str:
    """A store of these rows, and of their jobs."""
    out = store(tmp_path, [])
    jobs = [
        {"job": row["job"], "status": "done", "floors": (floors or {}).get(row["solver"], []), "solver": row["solver"]}
        | {"budget": fitted}
        for row in {row["job"]: row for row in rows}.values()
    ]
    add(Store(out), results=rows, jobs=jobs)
    wanted = {"name": "made", "about": "", "jobs": [job["job"] for job in jobs], "protocols": [], "tests": []}
    with open(f"{out}/sweeps/made.json", "w") as file:
        json.dump(wanted | {"skipped": [], "axis": None, "split": [], "named": {}, "crossover": [], "parts": []}, file)
    return out


def test_redraws_of_the_prompts_are_one_board_with_a_range(tmp_path):
    losses = {draw: 0.5 + 0.1 * draw for draw in range(5)}
    rows = [
        redrawn("conjugate_gradient", 1, seed, draw, loss + 0.01 * seed)
        for draw, loss in losses.items()
        for seed in (0, 1)
    ]
    out = by_hand(tmp_path, rows)
    [board] = boards(Tables(out), sweeps(out)[0]).boards
    assert board.protocol == "published"
    assert board.redraws == 5
    cell = board.rows[0].cells[1]
    assert (cell.mean, cell.low, cell.high, cell.published) == pytest.approx((0.705, 0.505, 0.905, 0.73))
    html = render(out, sweeps(out))
    assert "0.51 to 0.91" in html
    assert "drawn 5 times" in html


@pytest.mark.parametrize(("shift", "verdict"), [(0.0, "inside"), (-1.0, "outside")])
def test_a_published_value_lies_inside_the_redraws_or_not(tmp_path, shift, verdict):
    rows = [redrawn("conjugate_gradient", 1, 0, draw, 0.6 + 0.02 * draw + shift) for draw in range(10)]
    out = by_hand(tmp_path, rows)
    [one] = compare(Tables(out), sweeps(out))
    assert (one.row.figure, one.depth, one.value) == ("1a", 1, 0.73)
    assert one.verdict == verdict
    assert one.ours.redraws == 10
    assert verdict in render(out, sweeps(out))


def test_one_redraw_is_no_range(tmp_path):
    out = by_hand(tmp_path, [redrawn("conjugate_gradient", 1, 0, 3, 0.6)])
    [one] = compare(Tables(out), sweeps(out))
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
    [one] = [one for one in compare(Tables(out), sweeps(out)) if one.depth == 1]
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
    found = [one for one in compare(Tables(out), sweeps(out)) if one.row.figure == "4b" and one.depth == 1 and one.ours]
    assert [one.bound for one in found] == [("best_lfom(preconditioner=identity)", 0.81)]


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


def test_the_tables_agree_with_the_boards(finished):
    found = boards(Tables(finished), sweeps(finished)[0])
    assert len(found.boards) == 2
    frame = table(finished, "results").collect()
    for board in found.boards:
        for row in board.rows:
            for depth, cell in row.cells.items():
                here = frame.filter(
                    (frame["solver"] == row.solver) & (frame["protocol"] == board.protocol) & (frame["step"] == depth)
                )
                if row.family == "learned":
                    here = here.filter(here["depth"] == depth)
                assert cell.mean == pytest.approx(here["log_mse"].mean())
    json.dumps(found.as_json())


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.outside: list[str] = []
        self.count: dict[str, int] = {}

    def handle_starttag(self, tag, attributes):
        self.count[tag] = self.count.get(tag, 0) + 1
        for name, value in attributes:
            if name in ("src", "href", "srcset") and value and not value.startswith(("#", "data:")):
                self.outside.append(value)


def test_the_report_is_one_file_with_everything_in_it(finished):
    html = render(finished, sweeps(finished))
    tags = _Tags()
    tags.feed(html)
    assert tags.outside == []
    assert "script" not in tags.count
    assert "@import" not in html
    assert not re.search(r"url\((?!#)", html)
    assert tags.count["table"] == 2
    # per board: loss by depth, and training at each of two depths; then the packs' costs against the plan's
    assert tags.count["svg"] == 2 * (1 + 2) + 1
    assert "lie in their 80 % interval" in html
    for solver in ("conjugate_gradient", "memformer(memory=cgd, preconditioner=full)"):
        assert solver in html
    assert "20 jobs, all done" in html
    assert 'name="viewport"' in html


def test_a_report_of_a_partial_or_diverged_sweep(tmp_path):
    rows = [("a<b>", "learned", 1, 1, 0, None), ("c", "learned", 1, 1, 0, -708.0)]
    out = store(tmp_path, rows, jobs=["a<b>-1-0", "c-1-0", "x"])
    html = render(out, sweeps(out))
    assert "Partial: 2 of 3 jobs are done" in html
    assert "1 diverged" in html
    assert "a<b>" not in html


@pytest.mark.parametrize(
    ("labels", "titles"),
    [
        (["ridge"], ["all"]),
        (["ridge", "lfom(tied=True)"], ["all: ridge", "all: lfom(tied=True)"]),
        (
            ["mixture(experts=[noise=1, noise=2] #ab12)", "mixture(experts=[noise=1, noise=2] #ab12, start=zero)"],
            ["all", "all: start=zero"],
        ),
        (["mixture(experts=[a(b=[1])] #ab12, by=x)", "mixture(experts=[c] #cd34, by=x)"], ["all: a(b=[1])", "all: c"]),
        (["mixture(experts=[a] #ab12)", "mixture(experts=[c] #cd34, by=x)"], ["all: a", "all: c, by=x"]),
    ],
)
def test_titles_tell_solvers_of_one_name_apart(labels, titles):
    assert [_title("all", labels, label) for label in labels] == titles
