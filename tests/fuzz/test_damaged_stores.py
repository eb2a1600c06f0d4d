"""Whatever happened to a store's files: what reads it says so and changes nothing, and a run mends it."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lfombench.analysis.results import table
from lfombench.harness import load, run
from tests.builders import SMALL
from tests.commands import Done, lfombench
from tests.fuzz.budget import examples, seconds
from tests.fuzz.damage import TABLES, Damage, damages

LIMIT = 20.0  # seconds of computing, for a command; a run takes four
HELP = (
    r"[Dd]elete|run again|run its sweep again|next run|same command|prune|must read|was written by|lfombench run|--yes"
)


@dataclass(frozen=True)
class Stores:
    """A store and another one, both finished; their sweep; what the first one's boards say; and a folder for copies."""

    whole: Path
    other: Path
    sweep: Path
    boards: Any
    rows: pl.DataFrame
    folder: Path


@pytest.fixture(scope="module")
def stores(finished: str, tmp_path_factory: pytest.TempPathFactory) -> Stores:
    folder = tmp_path_factory.mktemp("damaged")
    sweep, second = folder / "small.yaml", folder / "second.yaml"
    sweep.write_text(SMALL)
    second.write_text(SMALL.replace("seeds: 2", "seeds: 1").replace("d: 3", "d: 2").replace("small", "second"))
    shutil.copytree(finished, folder / "whole", ignore=shutil.ignore_patterns("mlflow.db"))
    run(load(str(second)), str(folder / "other"), workers=0, mlflow="off")
    whole = folder / "whole"
    return Stores(whole, folder / "other", sweep, numbers(whole), measured(whole), folder)


def numbers(out: Path) -> Any:
    """The boards of the sweep, without the remark on parts of the code that they mix."""
    shown = lfombench("board", "small", "--json", "--out", str(out))
    assert shown.returncode == 0, shown.stderr
    return [board | {"mixed": None} for board in json.loads(shown.stdout)]


def measured(out: Path) -> pl.DataFrame:
    """What was measured, by job, test and iterate: the rows that count."""
    keys = ["job", "test", "step", "mse", "log_mse"]
    return table(str(out), "results").select(keys).collect().sort(keys)


def damaged(stores: Stores, damage: list[Damage]) -> tuple[Path, list[str]]:
    """A copy of the store with this damage, and the names of what was damaged."""
    out = stores.folder / "copy"
    if out.exists():
        shutil.rmtree(out)
    shutil.copytree(stores.whole, out)
    return out, [name for each in damage for name in each.do(out, stores.other)]


def listing(out: Path) -> dict[str, tuple[int, int]]:
    """All files and folders of a store but its report, with sizes and times."""
    found = {str(path.relative_to(out)): path.lstat() for path in sorted(out.rglob("*"))}
    return {
        name: (state.st_size, state.st_mtime_ns) for name, state in found.items() if name.partition("/")[0] != "report"
    }


def check(done: Done, names: list[str]) -> None:
    """A command ended as commands end; if in an error, it names what is damaged or what to do."""
    said = f"{done.args}\nexit code {done.returncode}\n{done.stderr}\ndamaged: {names}"
    assert done.returncode in (0, 1, 2, 3), said
    assert "fault of lfombench" not in done.stderr, said
    assert "Traceback" not in done.stderr + done.stdout, said
    if done.returncode in (1, 2):
        assert "Error: " in done.stderr, said
        named = any(Path(name).name in done.stderr for name in names)
        assert named or re.search(HELP, done.stderr), f"names neither the damage nor what to do: {said}"


READING = (
    ("status",),
    ("status", "--json"),
    ("board",),
    ("board", "--json"),
    ("query", "SELECT count(*) FROM results"),
    ("query", "SELECT job, sum(log_mse) FROM results GROUP BY job"),
    ("query", "SELECT * FROM jobs"),
    ("query", "SELECT count(*), max(step) FROM curves"),
    ("query", "SELECT * FROM weights"),
    ("why", "JOB"),
    ("why", "JOB", "--json"),
    ("plan", "SWEEP"),
    ("plan", "SWEEP", "--json"),
    ("report",),
)


@examples(50)
@given(
    damage=st.lists(damages, min_size=1, max_size=3),
    commands=st.lists(st.sampled_from(READING), min_size=1, max_size=4, unique=True),
    job=st.integers(0, 19),
)
def test_what_reads_a_damaged_store_says_so_and_changes_nothing(stores, damage, commands, job):
    out, names = damaged(stores, damage)
    before = listing(out)
    ids = stores.rows["job"].unique(maintain_order=True)
    given_words = {"JOB": ids[job % len(ids)], "SWEEP": str(stores.sweep)}
    for words in commands:
        with seconds(LIMIT):
            done = lfombench(*(given_words.get(word, word) for word in words), "--out", str(out))
        check(done, names)
        assert listing(out) == before, f"{words} changed the store"


@examples(4)
@given(damage=st.lists(damages, min_size=1, max_size=3))
def test_a_run_mends_a_damaged_store_or_says_what_is_damaged(stores, damage):
    out, names = damaged(stores, damage)
    before = {path.name for path in (out / "results").glob("*.parquet")}
    with seconds(LIMIT):
        done = lfombench("run", str(stores.sweep), "--out", str(out), "--workers", "0", "--mlflow", "off")
    check(done, names)
    assert done.returncode != 3, f"{done.stderr}\ndamaged: {names}"
    if done.returncode == 0:
        assert numbers(out) == stores.boards, f"other numbers; damaged: {names}"
        assert measured(out).equals(stores.rows), f"other rows; damaged: {names}"
    elif not {Path(name).parts[0] for name in names} & {"log", "store.json", *TABLES}:
        after = {path.name for path in (out / "results").glob("*.parquet")}
        assert before <= after, f"a run that failed took results away; damaged: {names}\n{done.stderr}"
