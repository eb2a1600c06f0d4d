"""A report whose pictures cannot be drawn is a report all the same, and a run without a report a run."""

from __future__ import annotations

import sys

import pytest

from lfombench.analysis import charts
from lfombench.analysis.assemble import boards
from lfombench.analysis.palette import palette
from lfombench.analysis.results import Tables, sweeps
from tests.commands import lfombench


class Panic(BaseException):
    """As Rust's are: no Exception."""


def broken(*_):
    raise Panic("called `Option::unwrap()` on a <None> value")


@pytest.mark.parametrize("how", ["it panics", "it is not installed"])
def test_a_picture_that_is_missing_says_why_in_its_place(finished, monkeypatch, caplog, how):
    import vl_convert

    if how == "it panics":
        monkeypatch.setattr(vl_convert, "vegalite_to_svg", broken)
    else:
        monkeypatch.setitem(sys.modules, "vl_convert", None)
    [manifest] = sweeps(finished)
    board = boards(Tables(finished), manifest).boards[0]
    drawn = charts.loss_by_depth(board, palette((row.solver, row.family) for row in board.rows))
    assert drawn.startswith("<svg")
    assert "This picture is missing: " in drawn
    assert "<None>" not in drawn
    assert "pictures are missing" in caplog.text


def test_a_run_ends_well_without_its_report(quick, tmp_path):
    """What is in the way is a folder of the report's name."""
    out = tmp_path / "out"
    (out / "report" / "index.html").mkdir(parents=True)
    done = lfombench("run", str(quick), "--out", str(out), "--workers", "0", "--mlflow", "off")
    assert done.returncode == 0, done.stderr
    assert "20 jobs in" in done.stdout
    assert "report: missing (" in done.stdout
    assert f"lfombench report --out {out} tries again" in done.stdout
    assert lfombench("report", "--out", str(out)).returncode == 1
