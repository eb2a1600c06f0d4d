"""What a store holds steers no terminal."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from lfombench.harness.cli.plain import plain
from lfombench.harness.store.store import Store
from tests.commands import lfombench, words
from tests.stores import add, store
from tests.terminals import Terminal

EVIL = "\x1b]52;c;aGk=\x07\x1b[2J\x9b31m\r\x08\u202etxt"
SHOWN = r"\x1b]52;c;aGk=\x07\x1b[2J\x9b31m\r\x08\u202etxt"
STEERS = ("\x1b]52", "\x1b[2J", "\x9b", "\x08", "\u202e", "\x07")


def test_text_without_what_steers():
    assert plain(EVIL) == SHOWN
    assert plain("ä\tb\n") == "ä\tb\n"


@pytest.fixture
def hostile(tmp_path: Path) -> str:
    """A store whose solver, sweep and failed job have escape sequences in them."""
    solver = f"a{EVIL}"
    out = store(
        tmp_path, [(solver, "f", 1, step, seed, -1.0) for seed in range(2) for step in range(2)], failed=[("b", 1, 3)]
    )
    reason = f"ValueError: {EVIL}"
    jobs = [{"job": f"{solver}-1-9", "status": "failed", "reason": reason, "task": f"t{EVIL}", "solver": solver}]
    add(Store(out), jobs=jobs)
    sweeps = Path(out) / "sweeps"
    values = json.loads((sweeps / "made.json").read_text()) | {"name": f"made{EVIL}", "about": EVIL}
    (sweeps / "made.json").unlink()
    (sweeps / f"made{EVIL}.json").write_text(json.dumps(values))
    return out


COMMANDS = [
    ["board"],
    ["board", "--format", "csv"],
    ["board", "--format", "markdown"],
    ["query", "SELECT job, status, reason, task FROM jobs"],
    ["query", "SELECT reason FROM jobs", "--format", "csv"],
    ["query", "SELECT reason FROM jobs", "--format", "json"],
    ["status"],
    ["why", "a"],
    ["report", EVIL],
]
ALL = """\
import json, sys
from lfombench.harness.cli.main import invoke
from lfombench.harness.cli.plain import make_plain
make_plain()
for command in json.loads(sys.argv[1]):
    print("<<<")
    sys.stdout.flush()
    invoke(command)
"""


def test_no_command_passes_it_on_to_a_terminal(hostile):
    commands = json.dumps([[*command, "--out", hostile] for command in COMMANDS])
    with Terminal([sys.executable, "-c", ALL, commands], columns=200) as terminal:
        terminal.process.wait(100)
        terminal.reader.join(5)
    shown = terminal.text.split("<<<")[1:]
    assert len(shown) == len(COMMANDS)
    for command, text in zip(COMMANDS, shown, strict=True):
        assert not [one for one in STEERS if one in text], (command, text)
        assert r"\x1b]52" in text or r"\u001b]52" in text, (command, text)


def test_another_program_gets_the_values_as_they_are(hostile):
    sql = "SELECT reason FROM jobs WHERE reason IS NOT NULL"
    done = subprocess.run(words("query", sql, "--format", "csv", "--out", hostile), capture_output=True, timeout=60)
    assert pl.read_csv(done.stdout, eol_char="\n")["reason"].to_list() == [f"ValueError: {EVIL}"]


def test_colours_of_ones_own_stay(finished):
    with Terminal(words("board", "--out", finished)) as terminal:
        terminal.process.wait(60)
        terminal.reader.join(5)
    assert "\x1b[1m" in terminal.text


FILE = "a,b\n1,2\n"


@pytest.mark.parametrize("form", ["read_csv('{}')", "READ_CSV ('{}')", "\"read_csv\"('{}')", "read_csv/**/('{}')"])
def test_sql_reads_the_store_alone_unless_told_otherwise(finished, tmp_path, form):
    (tmp_path / "x.csv").write_text(FILE)
    sql = f"SELECT count(*) AS n FROM results JOIN {form.format(tmp_path / 'x.csv')} ON true"
    done = lfombench("query", sql, "--out", finished)
    assert done.returncode == 1
    assert "--files" in done.stderr
    assert lfombench("query", sql, "--files", "--out", finished).returncode == 0
