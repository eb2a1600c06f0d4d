"""What is printed: in any encoding, on narrow and on dumb terminals, to those who read it line by line."""

from __future__ import annotations

import os
import re
import subprocess

import pytest

from tests.commands import words
from tests.terminals import Terminal

COLOUR = re.compile(r"\x1b\[[\d;]*3\d")
REDRAWN = re.compile(r"\r(?!\n)|\x1b\[\d*[AGKFJ]|\x1b\[\?25")  # a line that is written over, or a hidden cursor


@pytest.mark.parametrize("encoding", ["ascii", "cp437"])
def test_no_encoding_ends_what_is_done(finished, encoding):
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    done = subprocess.run(words("board", "--out", finished), capture_output=True, env=environment, timeout=100)
    assert done.returncode == 0, done.stderr
    assert b"fault" not in done.stderr
    assert "memformer" in done.stdout.decode(encoding)
    assert ("±" if encoding != "ascii" else "\\xb1") in done.stdout.decode(encoding)


def shown(command, **how):
    with Terminal(command, **how) as terminal:
        assert terminal.process.wait(60) == 0, terminal.text
        terminal.reader.join(5)
    return terminal.text


def test_a_dumb_terminal_and_a_screen_reader_have_plain_lines(quick, tmp_path):
    """Where nothing is said of UTF-8 either, and folder and sweep have names that no other encoding knows."""
    folder = tmp_path / "größe ✓"
    folder.mkdir()
    sweep = quick.rename(folder / "été.yaml")
    command = words("run", str(sweep), "--out", str(folder / "out"), "--workers", "0", "--mlflow", "off")
    text = shown(command, TERM="dumb", LC_ALL="C", PYTHONIOENCODING="ascii")
    assert not REDRAWN.search(text)
    assert "\x1b" not in text
    assert "20/20 jobs after" in text
    assert "20 jobs in" in text


def test_no_colour_where_none_is_wanted(finished):
    assert not COLOUR.search(shown(words("board", "--out", finished), NO_COLOR="1"))


@pytest.mark.parametrize("columns", [40, 200])
def test_tables_fit_the_terminal(finished, columns):
    """No number and no word of a solver is cut off, and no row of a table is longer than the terminal."""
    coloured = shown(words("board", "--out", finished), columns=columns)
    assert COLOUR.search(coloured)
    text = re.sub(r"\x1b\[[\d;]*m", "", coloured)
    rows = [line for line in text.splitlines() if re.search(r"\d\.\d{3}", line)]
    assert rows
    assert max(map(len, rows)) <= columns
    assert "…" not in text


def test_names_are_short_where_the_terminal_is_narrow(finished):
    narrow, wide = (shown(words("board", "--out", finished), columns=columns) for columns in (80, 120))
    assert "Memformer" in narrow
    assert "100 columns have full names" in narrow
    assert "memformer" in wide
    assert "100 columns" not in wide


def test_a_plan_fits_a_narrow_terminal(small, tmp_path):
    plan = shown(words("plan", str(small), "--out", str(tmp_path / "none")), columns=40)
    assert "…" not in plan
    assert plan.count("linear_transformer") >= 4
