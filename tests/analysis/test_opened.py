"""A store opened from Python, and queried in SQL."""

from __future__ import annotations

import subprocess
import sys

import polars as pl
import pytest

import lfombench
from lfombench.analysis.assemble import boards
from lfombench.analysis.results import Tables, sweeps
from lfombench.harness.errors import UserError
from tests.commands import lfombench as command
from tests.stores import store


def test_frames_have_the_fields_of_what_was_run(finished):
    opened = lfombench.open(finished)
    rows = opened.results.filter(pl.col("solver.preconditioner") == "full").collect()
    assert {name.partition("(")[0] for name in rows["solver"]} == {"memformer", "linear_transformer"}
    assert rows.filter(pl.col("solver.memory") == "cgd")["solver"].str.starts_with("memformer").all()
    assert rows["task.d"].unique().to_list() == [3]
    assert rows["protocol.use"].unique().sort().to_list() == ["published", "rigorous"]
    assert rows["sweeps"].to_list() == [["small"]] * len(rows)
    assert opened.results.select(pl.len()).collect().item() == len(opened.sql("SELECT job FROM results"))
    assert opened.jobs.select(pl.len()).collect().item() == 20
    assert opened.curves.collect()["job"].n_unique() > 0
    assert opened.weights.collect()["job"].n_unique() > 0
    assert "99 %" in opened.meaning("q99")


def test_its_board_is_the_boards(finished):
    opened = lfombench.open(finished)
    frame = opened.board("small")
    made = boards(Tables(finished), *sweeps(finished)).boards
    cells = [(b.protocol, r.solver, d, c.mean) for b in made for r in b.rows for d, c in sorted(r.cells.items())]
    assert list(frame.select("protocol", "solver", "depth", "mean").iter_rows()) == cells
    assert opened.sql("SELECT * FROM board").equals(frame)
    assert opened.sql("SELECT sweep, COUNT(*) AS n FROM sweeps GROUP BY sweep").rows() == [("small", 20)]


def test_a_comparison_is_printed_in_words(finished):
    opened = lfombench.open(finished)
    text = str(opened.compare("memformer", "conjugate_gradient", "small"))
    assert "memformer(memory=cgd, preconditioner=full) against conjugate_gradient: " in text


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELECT solvr FROM results", "unable to find column \"solvr\"; did you mean 'solver'?"),
        ("SELECT solver FROM reslts", "relation 'reslts' was not found; did you mean 'results'?"),
        ("SELEC solver FROM results", "at Line: 1, Column: 1"),
        ("SELECT sd FROM board", 'unable to find column "sd"'),
        ("SELECT log_mse FROM board", 'unable to find column "log_mse", which results has'),
        ("SELECT r.verdict FROM results r", "no column named 'verdict' found in table 'r', which board has"),
        ("SELECT seeed FROM results", "; did you mean 'seed'?"),
        ("SELECT seeed FROM board", "; did you mean 'seeds'?"),
    ],
)
def test_sql_that_makes_no_sense(finished, query, message):
    with pytest.raises(UserError, match="this SQL cannot be answered") as caught:
        lfombench.open(finished).sql(query)
    assert message in str(caught.value)


def test_what_is_not_there(finished, tmp_path):
    opened = lfombench.open(finished)
    with pytest.raises(UserError, match=r"no sweep 'smal' in .*did you mean 'small'"):
        opened.board("smal")
    with pytest.raises(UserError, match=r"no column 'q9'.*did you mean 'q9[09]'"):
        opened.meaning("q9")
    with pytest.raises(UserError, match="holds no results yet"):
        lfombench.open(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file is a file; a store is a folder"):
        lfombench.open(tmp_path / "file")
    with pytest.raises(UserError, match="query only reads: got 'drop table results'"):
        opened.sql("drop table results")


def test_an_empty_answer_says_how_much_is_missing(tmp_path):
    out = store(tmp_path, [("a", "learned", 1, step, 0, 1.0) for step in (0, 1)], asked=[("b", "learned", 1, [0])])
    done = command("query", "SELECT * FROM results WHERE solver = 'b'", "--out", out)
    assert "partial: 1 of 2 jobs of made are done" in done.stderr


def test_opening_imports_neither_torch_nor_ray(finished):
    heavy = "{'torch', 'ray', 'mlflow'} & {*sys.modules}"
    code = f"import sys, lfombench; lfombench.open({finished!r}).board(); print({heavy})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
