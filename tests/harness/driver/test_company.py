"""In company: one user's two clones run two sweeps into one store, and others read it meanwhile."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import duckdb
import polars as pl
import pytest

from lfombench.analysis.results import table
from tests.commands import lfombench, words

ROOT = Path(__file__).parents[3]
SWEEP = """\
name: {name}
protocol: {{use: rigorous, steps: 20, batch: 32, learning_rates: [0.1], validation_prompts: 64, test_prompts: 256}}
seeds: {seeds}
tasks: [linear_regression: {{d: 3, n: 8}}]
solvers:
  - conjugate_gradient: {{depth: {{each: {depths}}}}}
  - linear_transformer: {{preconditioner: {{each: [scalar, full]}}, depth: 1}}
"""
SEEDS = (1, 3)
DEPTHS = {"one": [1, 2, 3], "two": [2, 3, 4]}  # so most of their jobs are the same
JOBS = 6 * 3
ROUNDS = """\
import sys
import lfombench.harness
from lfombench.harness import load, run

print(lfombench.harness.__file__, flush=True)
for path in sys.argv[1:]:
    summary = run(load(path), "out", workers=0, join=True)
    assert summary.exit_code == 0, summary
    assert summary.mlflow_error is None, summary.mlflow_error
"""


def clone(folder: Path) -> Path:
    """Another copy of the package, to be imported from this folder."""
    for name in ("harness", "tasks", "solvers", "analysis", "cluster"):
        shutil.copytree(ROOT / name, folder / "lfombench" / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "api", folder / "lfombench", dirs_exist_ok=True)
    return folder


def started(folder: Path, name: str, **environment: str) -> subprocess.Popen[str]:
    """A process that runs a sweep again and again, each time with more seeds."""
    paths = [folder / f"{name}-{seeds}.yaml" for seeds in SEEDS]
    for path, seeds in zip(paths, SEEDS, strict=True):
        path.write_text(SWEEP.format(name=name, depths=DEPTHS[name], seeds=seeds))
    return subprocess.Popen(
        [sys.executable, "-c", ROUNDS, *map(str, paths)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        env=os.environ | environment,
    )


def seen_by_polars(out: str) -> dict[str, int]:
    """The number of rows of each job, of those that are committed now."""
    rows = table(out, "results").collect()
    assert rows.n_unique(["job", "test", "step"]) == len(rows), "rows twice"
    return dict(rows.group_by("job").len().iter_rows())


def seen_by_duckdb(out: str) -> dict[str, int]:
    rows = table(out, "results").select("job", "test", "step").collect().to_arrow()  # noqa: F841 - which DuckDB finds by name
    return dict(duckdb.sql("SELECT job, count(*) FROM rows GROUP BY job").fetchall())


def seen_by_query(out: str) -> dict[str, int]:
    told = lfombench("query", "SELECT job, count(*) AS n FROM results GROUP BY job", "--format", "json", "--out", out)
    assert told.returncode == 0, told.stderr
    return {row["job"]: row["n"] for row in pl.read_json(told.stdout.encode()).iter_rows(named=True)}


@pytest.mark.slow
def test_two_clones_two_sweeps_one_store_and_readers(tmp_path):
    out = str(tmp_path / "out")
    here = started(tmp_path, "one")
    there = started(tmp_path, "two", PYTHONPATH=str(clone(tmp_path / "clone")))
    ui, looks, seen = None, 0, {}
    try:
        while here.poll() is None or there.poll() is None:
            time.sleep(1.0)  # the cores are for those who write
            if not (tmp_path / "out" / "log").exists():
                continue
            for reader in (seen_by_polars, seen_by_duckdb, seen_by_query):
                now = reader(out)
                assert now.items() >= seen.items(), f"{reader.__name__} sees less than was seen, or parts of jobs"
                looks, seen = looks + (len(now) > len(seen)), now
            if seen and ui is None:
                ui = subprocess.Popen(words("ui", "--out", out), stdout=subprocess.PIPE, text=True)
        told = [writer.communicate()[0] for writer in (here, there)]
        assert (here.returncode, there.returncode) == (0, 0), told
        assert [line.startswith(str(tmp_path)) for line in told] == [False, True], told
        assert looks >= 2, "it was over before anybody looked"
        assert len(seen_by_polars(out)) == JOBS
        assert len(table(out, "jobs").collect()) == JOBS
        board = lfombench("board", "two", "--out", out)
        assert board.returncode == 0, board.stderr
        assert "mixe" not in board.stdout + board.stderr, "both clones have the same code"
        address = re.search(r"http://[^/\s]+", "".join(ui.stdout.readline() for _ in range(3)))
        assert address
        with urllib.request.urlopen(address[0], timeout=20) as page:
            assert page.status == 200
    finally:
        for one in (here, there, ui):
            if one is not None:
                one.terminate()
                one.wait()
                one.stdout.close()
