"""What is printed: in any encoding, on narrow and on dumb terminals, to those who read it line by line."""

from __future__ import annotations

import os
import re
import subprocess

import pytest

from tests.commands import words
from tests.terminals import Terminal

REDRAWN = re.compile(r"\r(?!\n)|\x1b\[\d*[AGKFJ]|\x1b\[\?25")  # a line that is written over, or a hidden cursor


@pytest.mark.parametrize("encoding", ["ascii", "cp437"])
def test_no_encoding_ends_what_is_done(finished, encoding):
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    done = subprocess.run(words("board", "--out", finished), capture_output=True, env=environment, timeout=100)
    assert done.returncode == 0, done.stderr
    assert b"fault" not in done.stderr
    assert "memformer" in done.stdout.decode(encoding)
    assert ("±" if encoding != "ascii" else "\\xb1") in done.stdout.decode(encoding)


def test_a_run_whose_words_no_encoding_has_is_done(small, tmp_path):
    """A sweep of that name, in a folder of that name, where nothing is said of UTF-8."""
    folder = tmp_path / "größe ✓"
    folder.mkdir()
    path = folder / "été.yaml"
    path.write_text(small.read_text(), encoding="utf-8")
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    command = words("run", str(path), "--out", str(folder / "out"), "--workers", "0", "--mlflow", "off")
    done = subprocess.run(command, capture_output=True, env=environment, timeout=100)
    assert done.returncode == 0, done.stderr
    assert b"20 jobs in" in done.stdout


def shown(command, **how):
    with Terminal(command, **how) as terminal:
        assert terminal.process.wait(60) == 0, terminal.text
        terminal.reader.join(5)
    return terminal.text


def test_a_dumb_terminal_and_a_screen_reader_have_plain_lines(small, tmp_path):
    command = words("run", str(small), "--out", str(tmp_path / "out"), "--workers", "0", "--mlflow", "off")
    text = shown(command, TERM="dumb")
    assert not REDRAWN.search(text)
    assert "\x1b" not in text
    assert "20/20 jobs after" in text


def test_no_colour_where_none_is_wanted(finished):
    colour = re.compile(r"\x1b\[[\d;]*3\d")
    assert colour.search(shown(words("board", "--out", finished)))
    assert not colour.search(shown(words("board", "--out", finished), NO_COLOR="1"))


@pytest.mark.parametrize("columns", [40, 200])
def test_tables_fit_the_terminal(finished, small, tmp_path, columns):
    """No number and no word of a solver is cut off, and no row of a table is longer than the terminal."""
    text = re.sub(r"\x1b\[[\d;]*m", "", shown(words("board", "--out", finished), columns=columns))
    rows = [line for line in text.splitlines() if re.search(r"\d\.\d{3}", line)]
    assert rows
    assert max(map(len, rows)) <= columns
    assert "…" not in text
    plan = shown(words("plan", str(small), "--out", str(tmp_path / "none")), columns=columns)
    assert "…" not in plan
    assert plan.count("linear_transformer") >= 4
