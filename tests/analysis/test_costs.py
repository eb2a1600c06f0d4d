"""Fronts: who is beaten by nobody that costs as much or less. Boards at equal cost."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from scipy.stats import ttest_rel

import lfombench
from lfombench.analysis.assemble import boards
from lfombench.analysis.costs import priced
from lfombench.analysis.results import Tables, sweeps
from lfombench.analysis.sheets import sheet_of
from lfombench.harness.errors import UserError
from lfombench.harness.store.store import Store
from tests.commands import lfombench as command
from tests.stores import add, store


def test_a_dearer_method_is_on_the_front_only_if_nothing_cheaper_is_better(tmp_path):
    means = {"cheap": (1, 0.0), "middle": (2, -1.0), "dear but no better": (3, -0.5), "dear and as good": (4, -1.0)}
    noise = [0.0, 0.02, -0.01, 0.03, 0.01]
    own = {name: 0.001 * cost for name, (cost, _) in means.items()}  # of a seed's number: what each adds of its own
    rows = [
        (name, "learned", 1, 1, seed, mean + noise[seed] + own[name] * (seed - 2) * (-1) ** seed)
        for name, (_, mean) in means.items()
        for seed in range(5)
    ]
    rows += [("lost", "learned", 1, 1, seed, None if seed else -9.0) for seed in range(5)]
    out = store(tmp_path, rows, params={name: cost for name, (cost, _) in means.items()} | {"lost": 5})
    tables, [manifest] = Tables(out), sweeps(out)
    [board] = boards(tables, manifest).boards
    found = {one.solver: one for one in priced(board, "params")}
    assert [one.cost for one in found.values()] == [1, 2, 3, 4, 5]
    assert {name for name, one in found.items() if one.front} == {"cheap", "middle", "dear and as good"}
    assert priced(board, "prompts") == []  # which this store does not know


def ladder(tmp_path) -> str:
    """`slim` has a parameter a layer, `wide` ten, and is better at equal depth; `big` is above all limits here."""
    noise = np.random.default_rng(0).normal(size=(3, 5)) * 0.05
    rows, jobs = [], []
    for i, (name, each, gain) in enumerate([("slim", 1, 0.5), ("wide", 10, 0.6), ("big", 500, 9.0)]):
        for depth in (1, 2, 3, 4):
            for seed in range(5):
                rows.append((name, "learned", depth, depth, seed, -gain * depth + noise[i, seed] * depth))
                own = {"solver": name, "depth": depth, "seed": seed, "budget": 1000 * depth, "labels": 21_000 * depth}
                flops = [100 * each * k for k in range(1, depth + 1)]
                jobs.append({"task": "t", "protocol": "p", "job": f"{name}-{depth}-{seed}", "flops": flops} | own)
    out = store(tmp_path, rows, params={"slim": 4, "wide": 40, "big": 2000})
    add(Store(out), jobs=jobs)
    return out


@pytest.mark.parametrize(
    ("limits", "depths"),
    [
        ({"flops": 2000.0}, {"slim": 4, "wide": 2}),
        ({"flops": 2000.0, "steps": 3.0}, {"slim": 3, "wide": 2}),
        ({"prompts": 2999.0}, {"slim": 2, "wide": 2, "big": 2}),
        ({"labels": 21_000.0}, {"slim": 1, "wide": 1, "big": 1}),
        ({"params": 40.0}, {"slim": 4, "wide": 4}),
        ({"params": 3.0}, {}),
    ],
    ids=lambda value: "-".join(value),
)
def test_a_board_at_equal_cost_ranks_each_method_at_its_deepest_that_fits(tmp_path, limits, depths):
    out = ladder(tmp_path)
    [board] = boards(Tables(out), sweeps(out)[0], limits).boards
    assert {row.solver: [*row.cells] for row in board.rows} == {name: [depth] for name, depth in depths.items()}
    left = {"slim", "wide", "big"} - depths.keys()
    assert all(any("above the limit" in note and name in note for note in board.left) for name in left)


def test_methods_of_different_depths_are_compared_in_pairs(tmp_path):
    out = ladder(tmp_path)
    [board] = boards(Tables(out), sweeps(out)[0], {"flops": 2000.0}).boards
    noise = np.random.default_rng(0).normal(size=(3, 5)) * 0.05
    slim, wide = -2.0 + 4 * noise[0], -1.2 + 2 * noise[1]
    assert [row.solver for row in board.rows] == ["slim", "wide"]
    cell = board.rows[1].cells[2]
    assert cell.ranks == (2, 2)
    assert cell.above.than == "slim"
    assert cell.above.mean == pytest.approx((wide - slim).mean())
    assert cell.above.p == pytest.approx(ttest_rel(wide, slim).pvalue)


def test_a_cost_that_the_store_does_not_know_is_no_cost_of_nothing(tmp_path):
    rows = [(name, "learned", 1, 1, seed, seed * 0.1) for name in ("a", "b") for seed in range(3)]
    out = store(tmp_path, rows)
    [board] = boards(Tables(out), sweeps(out)[0], {"flops": 1e9}).boards
    assert board.rows == []
    assert board.left == ["not known what it takes, as its jobs ran before that was counted: a at 1, b at 1"]
    sheet = sheet_of(board)
    assert sheet.lines == []
    assert (
        "no method is known to be within the limits" in command("board", "--out", out, "--at-most", "flops=1e9").stdout
    )


def test_all_forms_of_a_board_at_equal_cost_say_the_same(finished):
    """Full preconditioners take 2 d^2 more in each layer, so that they may have fewer."""
    limit = "flops=140"
    [made] = json.loads(command("board", "--out", finished, "--at-most", limit, "--json").stdout)
    shown = {
        (board["protocol"], row["solver"]): (int(depth), cell["mean"], row["costs"][depth]["flops"])
        for board in made["boards"]
        for row in board["rows"]
        for depth, cell in row["cells"].items()
    }
    assert shown
    assert max(flops for *_, flops in shown.values()) <= 140
    rows = csv.DictReader(
        io.StringIO(command("board", "--out", finished, "--at-most", limit, "--format", "csv").stdout)
    )
    lines = {(r["protocol"], r["solver"]): (int(r["depth"]), float(r["mean"]), float(r["flops"])) for r in rows}
    assert lines == shown
    frame = lfombench.open(finished).board(at_most={"flops": 140})
    assert {
        (p, s): tuple(rest) for p, s, *rest in frame.select("protocol", "solver", "depth", "mean", "flops").rows()
    } == (shown)
    for form in ("table", "markdown", "latex"):
        text = command("board", "--out", finished, "--at-most", limit, "--format", form).stdout
        for _, solver in shown:
            assert solver.partition("(")[0].replace("_", r"\_" if form == "latex" else "_") in text


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("flop=3", "did you mean 'flops'?"),
        ("params", "such as params=50"),
        ("params=many", "'many' is not a valid"),
        ("params=-1", "not in the range"),
        ("params=nan", "must be a finite number"),
    ],
)
def test_limits_that_make_no_sense(finished, given, said):
    found = command("board", "--out", finished, "--at-most", given)
    assert found.returncode == 2
    assert said in found.stderr
    with pytest.raises(UserError, match="did you mean 'params'"):
        lfombench.open(finished).board(at_most={"param": 3})


def test_depths_that_have_no_result_yet_or_lost_all_are_named(tmp_path):
    """`slow` has no job of depth 4 done, `weak` lost all of its; a board of depths shows both at 4."""
    rows, jobs = [], []
    for name, family in (("slow", "classical"), ("weak", "learned")):
        for seed in range(4):
            steps = (1, 2) if family == "classical" else (2,)
            rows += [(name, family, 2, step, seed, -float(step) + 0.01 * seed) for step in steps]
            own = {"solver": name, "depth": 2, "seed": seed, "budget": 0, "labels": 0, "flops": [10, 20]}
            jobs.append({"task": "t", "protocol": "p", "job": f"{name}-2-{seed}"} | own)
    asked = [("slow", "classical", 4, range(4)), ("weak", "learned", 4, range(4))]
    out = store(tmp_path, rows, asked=asked, failed=[("weak", 4, seed) for seed in range(4)], params={"weak": 2})
    add(Store(out), jobs=jobs)
    [plain] = boards(Tables(out), sweeps(out)[0]).boards
    assert {row.solver: max(row.cells) for row in plain.rows} == {"slow": 4, "weak": 4}
    [board] = boards(Tables(out), sweeps(out)[0], {"flops": 100.0}).boards
    assert {row.solver: [*row.cells] for row in board.rows} == {"slow": [2], "weak": [2]}
    assert board.left == ["not known what it takes, as none of its jobs is done: slow at 3, slow at 4, weak at 4"]
    [deepest] = boards(Tables(out), sweeps(out)[0], {"steps": 9.0}).boards
    assert {row.solver: [*row.cells] for row in deepest.rows} == {"slow": [4], "weak": [4]}
    assert next(row for row in deepest.rows if row.solver == "weak").cells[4].lost == 4


def test_a_number_that_is_none_is_refused_from_python(finished):
    for most in ("a", -1, float("nan")):
        with pytest.raises(UserError, match="needs a number of 0 or more"):
            lfombench.open(finished).board(at_most={"flops": most})  # type: ignore[dict-item]
    done = command("board", "--out", finished, "--at-most", "flops=1", "--at-most", "flops=2")
    assert done.returncode == 2
    assert "flops has two limits" in done.stderr
