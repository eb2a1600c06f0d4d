"""The commands as a user meets them: in processes of their own for what a process shows, in this one for the rest."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from tests.commands import lfombench, process


@pytest.mark.parametrize("command", [["--help"], ["run", "--help"], ["board", "--help"], ["submit", "--help"]])
def test_help_imports_nothing_heavy(command):
    code = (
        "import sys; sys.argv = ['lfombench', *" + repr(command) + "]\n"
        "from lfombench.harness.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as end: assert end.code == 0\n"
        "heavy = {'torch', 'ray', 'mlflow', 'polars', 'pyarrow', 'pydantic', 'numpy', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Usage: lfombench" in done.stdout


def test_reading_imports_neither_torch_nor_ray_nor_pandas(finished):
    """Arrow imports pandas, which takes a third of a second, where one asks it for an array of a list."""
    code = (
        "import sys\n"
        "from lfombench.harness.cli.main import invoke\n"
        "query = 'SELECT solver, avg(log_mse) FROM results GROUP BY solver'\n"
        "for command in (['board', '--format', 'csv'], ['query', query], ['status'], ['report']):\n"
        f"    assert invoke([*command, '--out', {finished!r}]) == 0, command\n"
        "    slow = {'pandas'} if command[0] in ('board', 'query') else set()\n"
        "    assert not ({'torch', 'ray', 'mlflow'} | slow) & set(sys.modules), command\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_plan_in_json(small, tmp_path, finished):
    fresh = json.loads(lfombench("plan", str(small), "--out", str(tmp_path / "none"), "--json").stdout)
    assert {key: fresh[key] for key in ("jobs", "done", "to_run")} == {"jobs": 20, "done": 0, "to_run": 20}
    assert sum(pack["jobs"] for pack in fresh["packs"]) == 20
    assert not (tmp_path / "none").exists()
    done = json.loads(lfombench("plan", str(small), "--out", finished, "--json").stdout)
    assert {key: done[key] for key in ("jobs", "done", "to_run")} == {"jobs": 20, "done": 20, "to_run": 0}
    shown = lfombench("plan", str(small), "--out", str(tmp_path / "none"))
    assert "small: 20 jobs, 0 done, 20 to run in 10 packs" in shown.stdout


def test_run_shows_boards_and_writes_a_report(small, tmp_path):
    out = tmp_path / "out"
    done = process("run", str(small), "--out", str(out), "--workers", "0", "--mlflow", "off")
    assert done.returncode == 0, done.stderr
    assert "small: 20 jobs, 0 done, 20 to run" in done.stdout
    assert "20/20 jobs" in done.stdout
    assert "memformer(memory=cgd, preconditioner=full)" in done.stdout
    assert "20 jobs in" in done.stdout
    assert (out / "report" / "index.html").is_file()
    again = lfombench("run", str(small), "--out", str(out), "--workers", "0", "--mlflow", "off")
    assert again.returncode == 0
    assert "20 done, 0 to run" in again.stdout
    assert "nothing to run" in again.stdout

    def board(text: str) -> str:
        return text[text.index("published(") : text.index("natural log")]

    assert board(again.stdout) == board(done.stdout)


def test_status(finished):
    assert lfombench("status", "--out", finished).stdout == "small: 20 of 20 jobs done, 0 failed, 0 diverged\n"
    told = json.loads(lfombench("status", "--out", finished, "--json").stdout)
    assert told["drivers"] == []
    [row] = told["sweeps"]
    assert row == {"sweep": "small", "jobs": 20, "done": 20, "failed": 0, "diverged": 0}


SQL = "SELECT solver, AVG(log_mse) AS loss FROM results WHERE step = depth GROUP BY solver ORDER BY loss"


def test_query_in_three_formats(finished):
    from_json = json.loads(lfombench("query", SQL, "--out", finished, "--format", "json").stdout)
    from_csv = list(csv.DictReader(io.StringIO(lfombench("query", SQL, "--out", finished, "--format", "csv").stdout)))
    assert [row["solver"] for row in from_json] == [row["solver"] for row in from_csv]
    assert len(from_json) == 4
    assert [row["loss"] for row in from_json] == sorted(row["loss"] for row in from_json)
    assert "memformer(memory=cgd, preconditioner=full)" in lfombench("query", SQL, "--out", finished).stdout
    assert (
        lfombench("query", "SELECT job, blocks FROM results LIMIT 1", "--out", finished, "--format", "csv").returncode
        == 0
    )
    joined = (
        "SELECT j.seed, COUNT(*) AS points FROM curves c JOIN jobs j ON c.job = j.job GROUP BY j.seed ORDER BY j.seed"
    )
    assert [
        row["seed"] for row in json.loads(lfombench("query", joined, "--out", finished, "--format", "json").stdout)
    ] == [0, 1]


def test_lists_in_words():
    shown = lfombench("solvers").stdout
    assert "depth: whole number >= 1" in shown
    assert "preconditioner: scalar | diagonal | full" in shown
    assert "spectrum: list of numbers >= 0 (or null); default null" in lfombench("tasks").stdout
    assert "learning_rates: [0.01, 0.03, 0.1]" in lfombench("protocols").stdout
    assert json.loads(lfombench("protocols", "--json").stdout)["published"]["data_seed"] == 999
    assert "figure_1 = linear_regression(d=5, n=20, spectrum=[1, 1, 0.5, 0.25, 1])" in lfombench("tasks").stdout
    assert "step: number > 0 or theory | tuned | per_layer" in shown
    assert "fig1: 320 jobs" in process("sweeps").stdout  # here, shapes of thousands of mixtures were checked


@pytest.mark.parametrize("name", ["tasks", "solvers"])
def test_lists(name):
    listed = json.loads(lfombench(name, "--json").stdout)
    assert ("memformer" in listed) == (name == "solvers")
    assert ("linear_regression" in listed) == (name == "tasks")


BAD = [
    (["rnu", "fig1"], 2, "no command 'rnu'", "did you mean 'run'?"),
    (["run"], 2, "Missing argument 'SWEEP'", ""),
    (["run", "fig11"], 2, "no sweep 'fig11'", "did you mean 'fig1'?"),
    (["run", "fig1", "--worker", "2"], 2, "--worker", "--workers"),
    (["run", "fig1", "--workers", "-1"], 2, "-1", "x>=0"),
    (["run", "fig1", "--workers", "0", "--address", "auto"], 2, "cannot be on a cluster", ""),
    (["run", "fig1", "--out", "{file}"], 1, "is a file", "must be a folder"),
    (["run", "fig1", "--out", "{file}/x"], 1, "cannot be written", ""),
    (["run", "fig1", "--out", "{folder}/a", "--address", "127.0.0.1:1"], 1, "nothing listens there", ""),
    (["board", "--out", "{folder}/nothing"], 1, "holds no results yet", "lfombench run"),
    (["board", "smal", "--out", "{store}"], 1, "no sweep 'smal'", "did you mean 'small'?"),
    (["query", "SELECT los FROM results", "--out", "{store}"], 1, "cannot be answered", "Tables: results(job, task"),
    (["query", "SELECT", "--out", "{store}"], 1, "cannot be answered", ""),
    (["query", "DROP TABLE results", "--out", "{store}"], 1, "query only reads", "SELECT"),
    (["board", "--out", "foo://x"], 1, "a store is a folder, or a bucket", ""),
    (["board", "--out", ""], 1, "--out is empty", ""),
    (["ui", "--out", "{folder}/nothing"], 1, "holds no results yet", ""),
    (
        ["submit", "fig1", "--address", "head:8265", "--out", "/x"],
        1,
        "must be the address of Ray's dashboard",
        "http://head:8265",
    ),
    (["submit", "fig1", "--address", "http://127.0.0.1:1", "--out", "/x"], 1, "nothing listens at 127.0.0.1:1", ""),
    (["submit", "fig1", "--address", "http://127.0.0.1:1"], 2, "Missing option '--out'", ""),
]


@pytest.mark.parametrize(("arguments", "code", "says", "and_says"), BAD, ids=[" ".join(case[0]) for case in BAD])
def test_bad_input_is_named_without_a_traceback(arguments, code, says, and_says, finished, tmp_path):
    (tmp_path / "file").write_text("")
    places = {"file": str(tmp_path / "file"), "folder": str(tmp_path), "store": finished}
    done = lfombench(*(argument.format(**places) for argument in arguments))
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert and_says in done.stderr
    assert "Traceback" not in done.stderr


def test_damaged_stores_say_which_file(finished, tmp_path, small, caplog):
    """A cut-off table, a damaged record of a sweep, a damaged version."""
    [table, *_] = sorted((Path(finished) / "results").iterdir())
    for name, shows, then, says in (
        (f"results/{table.name}", "cannot be read", 0, f"results/{table.name} is damaged: its jobs run again"),
        ("sweeps/odd.json", "odd.json is damaged: delete it", 0, ""),  # of another sweep: none of this one's business
        ("store.json", "store.json is damaged", 1, "store.json is damaged"),
    ):
        out = tmp_path / name.partition("/")[0]
        shutil.copytree(finished, out)
        (out / name).write_text("[")
        shown = lfombench("board", "--out", str(out))
        if name != "store.json":
            assert shown.returncode == 1
            assert shows in shown.stderr
        done = lfombench("run", str(small), "--out", str(out), "--workers", "0", "--mlflow", "off")
        assert done.returncode == then, done.stderr
        assert says in done.stderr + caplog.text  # pytest catches what is logged
        assert "Traceback" not in done.stderr + shown.stderr


def test_a_solver_that_exits_is_a_failed_job(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "exits.py").write_text(OWN.replace("w = problem.start()", "raise SystemExit(0)"))
    (tmp_path / "own.yaml").write_text(
        "name: own\nprotocol: {use: rigorous, test_prompts: 64}\n"
        "tasks: [linear_regression: {d: 2, n: 4}]\nsolvers: ['exits:Signs': {depth: 2}]\n"
    )
    done = lfombench("run", "own.yaml", "--workers", "0", "--mlflow", "off")
    assert done.returncode == 3
    assert "failed: exits:Signs depth 2 seed 0" in done.stderr
    assert "1 job in" in done.stdout


def test_debug_shows_the_traceback(tmp_path):
    done = lfombench("run", "fig11", "--debug")
    assert done.returncode == 2
    assert "Traceback" in done.stderr


OWN = '''
from dataclasses import dataclass
from typing import ClassVar, Literal
from lfombench.solvers import Method

@dataclass(frozen=True, kw_only=True)
class Signs(Method):
    """Sign descent."""

    family: ClassVar[Literal["classical"]] = "classical"
    step: float = 0.1

    def iterates(self, params, problem):
        w = problem.start()
        yield w
        for _ in range(self.depth):
            w = w - self.step * problem.gradient(w).sign()
            yield w
'''


def test_a_solver_of_ones_own_in_the_current_folder(tmp_path):
    (tmp_path / "mine.py").write_text(OWN)
    (tmp_path / "own.yaml").write_text(
        "name: own\nprotocol: {use: rigorous, test_prompts: 64}\ntasks: [linear_regression: {d: 2, n: 4}]\n"
        "solvers:\n  - 'mine:Signs': {depth: 2, step: {each: [0.1, 0.2]}}\n"
    )
    done = process("run", "own.yaml", "--workers", "0", "--mlflow", "off", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = pl.read_parquet(tmp_path / "out" / "results" / "*.parquet")
    assert set(found["solver"]) == {"mine:Signs", "mine:Signs(step=0.2)"}


def test_a_store_of_a_newer_schema_is_refused(tmp_path, small):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "store.json").write_text('{"schema": 99}')
    done = lfombench("run", str(small), "--out", str(tmp_path / "out"))
    assert done.returncode == 1
    assert "newer lfombench" in done.stderr
