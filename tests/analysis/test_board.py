"""Boards, from stores made by hand and by runs."""

from __future__ import annotations

import json

import pytest

from lfombench.analysis.board import boards
from lfombench.analysis.report import render
from lfombench.analysis.results import NoStore, Tables, sweeps, table
from tests.stores import by_hand, redrawn, store


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
