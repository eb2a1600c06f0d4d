"""Boards, from stores made by hand and by runs."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest

from lfombench.analysis.assemble import boards
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
    assert by["learned"].cells[2].ranks == (1, 1)
    assert by["learned"].cells[2].above is None
    assert by["classic"].cells[2].above.words == "worse by at least 2.4"
    assert board.leaders(2) == {"learned"}
    assert board.leaders(3) == set()  # alone: nobody to lead
    assert board.ranked_at == 2
    assert board.depths == [1, 2, 3]
    assert not found.partial


def rows_of(losses):
    """Rows of solvers of depth 1, from their losses by seed."""
    return [(name, "classical", 1, 1, seed, loss) for name, each in losses.items() for seed, loss in enumerate(each)]


def board_of(out):
    [board] = boards(Tables(out), sweeps(out)[0]).boards
    return board, {row.solver: row.cells.get(1) for row in board.rows}


def test_those_that_cannot_be_told_apart_lead_together(tmp_path):
    losses = {"a": [0.0, 0.1, 0.2], "b": [0.15, 0.0, 0.35], "c": [9.0, 9.1, 9.2]}
    out = store(tmp_path, [*rows_of(losses), ("limit", "bound", 1, 1, 0, -1.0)])
    board, cells = board_of(out)
    assert board.leaders(1) == {"a", "b"}
    assert [cells[name].ranks for name in ("a", "b", "c", "limit")] == [(1, 2), (1, 2), (3, 3), None]
    assert [cells[name].group for name in ("a", "b", "c")] == ["a", "a", ""]
    assert cells["b"].above.verdict == "undecided"
    assert cells["c"].above.verdict == "worse"


def test_a_small_gap_that_every_seed_shows_is_real(tmp_path):
    shared = [0.0, 1.0, -0.7, 0.4, 2.0]  # what the seeds do to both is ten times the difference
    gaps = (0.1, 0.12, 0.09, 0.1, 0.11)
    out = store(tmp_path, rows_of({"a": shared, "b": [x + gap for x, gap in zip(shared, gaps, strict=True)]}))
    board, cells = board_of(out)
    assert board.leaders(1) == {"a"}
    assert cells["b"].above.words == "worse by at least 0.089"
    assert cells["a"].half_width > 1


def test_one_surviving_seed_of_five_leads_nowhere(tmp_path):
    out = store(tmp_path, rows_of({"lucky": [None, None, None, None, -9.0], "sound": [0.0, 0.1, 0.2, 0.1, 0.0]}))
    board, cells = board_of(out)
    assert [row.solver for row in board.rows] == ["sound", "lucky"]
    assert board.leaders(1) == {"sound"}
    assert (cells["lucky"].seeds, cells["lucky"].asked, cells["lucky"].lost) == (1, 5, 4)
    assert cells["lucky"].half_width is None
    assert cells["lucky"].median is None
    assert cells["lucky"].above.mean is None
    assert "4 of 5 lost" in cells["lucky"].above.words


def test_a_job_that_failed_is_lost_and_one_that_did_not_run_is_pending(tmp_path):
    losses = {"a": [0.0, 0.1], "b": [0.2, 0.1]}
    asked = [("a", "classical", 1, range(5)), ("b", "classical", 1, range(4)), ("never", "classical", 1, range(2))]
    out = store(tmp_path, rows_of(losses), asked=asked, failed=[("b", 1, 2), ("b", 1, 3)])
    found = boards(Tables(out), sweeps(out)[0])
    assert found.partial
    cells = {row.solver: row.cells[1] for row in found.boards[0].rows}
    assert [(c.seeds, c.asked, c.lost, c.pending) for _, c in sorted(cells.items())] == [
        (2, 5, 0, 3),
        (2, 4, 2, 0),
        (0, 2, 0, 2),
    ]
    assert cells["never"].mean is None


def test_one_seed_is_no_interval_and_no_lead(tmp_path):
    board, cells = board_of(store(tmp_path, rows_of({"a": [0.0], "b": [5.0]})))
    assert board.leaders(1) == set()
    assert cells["a"].half_width is None
    assert cells["a"].ranks is None
    assert cells["b"].above.words == "one seed: no verdict"


def test_rows_without_common_seeds_are_not_compared(tmp_path):
    rows = [("a", "classical", 1, 1, seed, 0.1 * seed) for seed in range(3)]
    rows += [("b", "classical", 1, 1, seed, 0.1 * seed) for seed in range(3, 6)]
    board, cells = board_of(store(tmp_path, rows))
    assert cells["b"].above.words == "no common seed"
    assert board.leaders(1) == set()


def test_exact_asks_every_seed(tmp_path):
    board, cells = board_of(
        store(tmp_path, rows_of({"a": [-60.0] * 4 + [-2.0], "b": [-60.0, -70.0, -50.0, -60.0, -55.0]}))
    )
    assert cells["b"].exact
    assert not cells["a"].exact
    assert cells["a"].mean == pytest.approx((4 * -25 - 2) / 5)
    assert cells["a"].outlier
    assert board.rows[0].solver == "b"


def test_identical_rows_say_so(tmp_path):
    _, cells = board_of(store(tmp_path, rows_of({"a": [0.0, 0.3, 0.1], "b": [0.0, 0.3, 0.1]})))
    assert cells["b"].above.words == "identical"
    assert cells["b"].above.mean == 0
    assert cells["b"].ranks == (1, 2)


def test_losses_that_are_not_finite_are_lost_and_named(tmp_path):
    out = store(tmp_path, rows_of({"a": [0.0, float("nan"), float("-inf")], "b": [1.0, 1.1, 1.0]}))
    found = boards(Tables(out), sweeps(out)[0])
    assert found.stray == ["a at depth 1 on t"]
    assert {row.solver: row.cells[1].lost for row in found.boards[0].rows} == {"a": 2, "b": 0}


def test_the_interval_of_a_trained_model_is_of_its_own_last_iterate(tmp_path):
    """Models of depth 2 have a first iterate too, with blocks of its own, which says nothing of models of depth 1."""
    generator = np.random.default_rng(0)
    blocks = {(depth, step): generator.chisquare(1, 64) for depth in (1, 2) for step in range(1, depth + 1)}
    rows = [
        redrawn("a", step, seed, 7, float(np.log(each.mean())), blocks=each.tolist(), family="learned", params=1)
        | {"depth": depth, "job": f"a-{depth}-{seed}"}
        for (depth, step), each in blocks.items()
        for seed in (0, 1)
    ]
    for i, order in enumerate((rows, rows[::-1])):
        [board] = boards(Tables(out := by_hand(tmp_path / str(i), order)), sweeps(out)[0]).boards
        for depth in (1, 2):
            own = blocks[depth, depth]
            spread = (own / own.mean()).std(ddof=1) / 8
            assert board.rows[0].cells[depth].half_width == pytest.approx(1.9983 * spread, rel=1e-4)


def test_a_row_without_a_depth_has_no_rank_there(tmp_path):
    rows = [
        (name, "classical", 2, step, seed, -step + seed / 10) for name in "ab" for step in (1, 2) for seed in (0, 1)
    ]
    rows += [("c", "learned", 1, 1, seed, -5.0 + seed / 9) for seed in (0, 1)]
    board, _ = board_of(store(tmp_path, rows))
    cells = {row.solver: row.cells for row in board.rows}
    assert cells["a"][1].of == 3
    assert cells["a"][2].of == 2
    assert 2 not in cells["c"]
    assert board.ranked_at == 1


def test_boards_are_the_same_whatever_order_rows_were_written_in(tmp_path):
    generator = random.Random(0)
    rows = rows_of({name: [generator.random() for _ in range(6)] for name in "abcde"})
    texts = []
    for i in range(3):
        generator.shuffle(rows)
        out = store(tmp_path / str(i), rows)
        texts.append(json.dumps(boards(Tables(out), sweeps(out)[0]).as_json()))
    assert len(set(texts)) == 1


def test_a_board_says_what_is_missing_and_what_diverged(tmp_path):
    rows = [("a", "learned", 1, 1, seed, None if seed == 2 else 1.0) for seed in range(3)] + [
        ("b", "learned", 1, 1, 0, None)
    ]
    out = store(tmp_path, rows, jobs=["a-1-0", "a-1-1", "a-1-2", "b-1-0", "missing"], asked=[("c", "learned", 1, [0])])
    found = boards(Tables(out), sweeps(out)[0])
    assert found.partial
    assert (found.done, found.wanted) == (4, 5)
    assert [(row.solver, row.diverged, row.cells[1].mean) for row in found.boards[0].rows] == [
        ("a", 1, 1.0),
        ("c", 0, None),
        ("b", 1, None),
    ]
    assert found.boards[0].rows[0].cells[1].seeds == 2
    assert found.diverged == 2


def test_many_depths_are_thinned(tmp_path):
    out = store(tmp_path, [("a", "classical", 40, step, 0, -float(step)) for step in range(41)])
    depths = boards(Tables(out), sweeps(out)[0]).boards[0].depths
    assert len(depths) == 8
    assert (depths[0], depths[-1]) == (1, 40)


def test_of_many_depths_those_are_shown_that_every_method_has(tmp_path):
    rows = [("every step", "classical", 12, step, 0, -float(step)) for step in range(13)]
    rows += [("some layers", "learned", depth, depth, 0, 0.0) for depth in (1, 2, 4, 8, 12)]
    out = store(tmp_path, rows)
    assert boards(Tables(out), sweeps(out)[0]).boards[0].depths == [1, 2, 4, 8, 12]


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
