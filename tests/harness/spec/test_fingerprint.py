"""The code behind a number: what makes another of it, and what a run does then."""

from __future__ import annotations

import itertools
import json
import logging
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from lfombench.analysis.assemble import boards
from lfombench.analysis.results import Tables, sweeps, table
from lfombench.harness import PROTOCOLS
from lfombench.harness.spec import fingerprint
from lfombench.harness.spec.job import Case
from lfombench.harness.spec.labels import find
from lfombench.solvers import ConjugateGradient, GdPlusPlus, GradientDescent, Memformer
from lfombench.tasks import LinearRegression

QUICK = replace(PROTOCOLS["rigorous"], steps=2, batch=4, learning_rates=(0.1,), test_prompts=64)
TASK = LinearRegression(d=2, n=3)

MINE = '''\
"""Mine: two solvers and a task."""
from dataclasses import dataclass
from typing import ClassVar

from lfombench.solvers import Method
from lfombench.tasks import LinearRegression
from . import helpers
from .helpers import marked
from .exports import step as length

TWICE = 2
UNUSED = 1


def scaled(w, factor=TWICE):
    return factor * w


class Options:
    power = 1


class Base(Method):
    family: ClassVar = "classical"

    def direction(self, problem, w):
        return problem.gradient(w).sign()


@marked
@dataclass(frozen=True, kw_only=True)
class Signs(Base):
    """Sign descent."""

    def iterates(self, params, problem):
        """The iterates."""
        w = problem.start()
        yield w
        for _ in range(self.depth):
            w = w - scaled(length) * helpers.size() ** Options.power * self.direction(problem, w)  # down
            yield w


@dataclass(frozen=True, kw_only=True)
class Still(Method):
    """Stays where it is."""

    family: ClassVar = "classical"

    def iterates(self, params, problem):
        for _ in range(self.depth + 1):
            yield problem.start()


@dataclass(frozen=True, kw_only=True)
class Mine(LinearRegression):
    """As linear regression."""
'''
HELPERS = "from .deep import LOW\n\n\ndef marked(cls):\n    return cls\n\n\ndef size():\n    return LOW\n"
FILES = {
    "__init__": "",
    "mine": MINE,
    "helpers": HELPERS,
    "exports": "from .deep import *\n",
    "deep": "step = 0.1\nLOW = 1\nHIGH = 2\n",
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """From changed texts of files, a package of that code under a name that was never imported; its `mine` module."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(**texts: str) -> str:
        name = f"{tmp_path.name}_{next(NUMBERS)}".replace("-", "_")
        (tmp_path / name).mkdir()
        for file, text in (FILES | texts).items():
            (tmp_path / name / f"{file}.py").write_text(text)
        return f"{name}.mine"

    return write


NUMBERS = itertools.count()


def codes(module: str) -> dict[str, str]:
    """The fingerprints of both solvers on lfombench's task, and of lfombench's solver on the module's task."""
    signs, still = (find("solver", f"{module}:{name}")(depth=1) for name in ("Signs", "Still"))
    mine = find("task", f"{module}:Mine")(d=2, n=3)
    cases = {
        "Signs": Case(task=TASK, solver=signs, protocol=QUICK),
        "Still": Case(task=TASK, solver=still, protocol=QUICK),
        "Mine": Case(task=mine, solver=ConjugateGradient(depth=1), protocol=QUICK),
    }
    return {name: fingerprint.code(case) for name, case in cases.items()}


def changed(texts: dict[str, str], package) -> set[str]:
    """Which of the three have another fingerprint."""
    before, after = codes(package()), codes(package(**texts))
    return {name for name in before if before[name] != after[name]}


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("mine", "w - scaled", "w + scaled"),
        ("mine", "TWICE = 2", "TWICE = 3"),  # the default of a function that it calls
        ("mine", "factor * w", "w * factor"),
        ("mine", ".sign()", ".sign().sign()"),  # its base
        ("mine", "@marked\n", ""),
        ("mine", "power = 1", "power = 2"),
        ("mine", "    power = 1", "    power = 1\n\n\nOptions.power = 2"),
        ("helpers", "return cls", "return (cls)[:]"),  # its decorator
        ("helpers", "return LOW", "return -LOW"),
        ("helpers", "import LOW", "import HIGH as LOW"),
        ("deep", "LOW = 1", "LOW = 5"),  # two modules away
        ("deep", "step = 0.1", "step = 0.2"),  # through a star
        ("exports", "from .deep import *", "step = 0.3"),
        ("deep", "LOW = 1", "try:\n    LOW = 1\nexcept ValueError:\n    LOW = 2"),
    ],
)
def test_what_a_solver_uses_makes_it_and_nothing_else_stale(file, old, new, package):
    assert old in FILES[file]
    text = FILES[file].replace(old, new)
    if new == "return (cls)[:]":
        text = FILES[file].replace(old, "cls.mark = 1\n    return cls")
    assert changed({file: text}, package) == {"Signs"}


@pytest.mark.parametrize(
    ("texts", "names"),
    [
        ({"mine": MINE.replace("yield problem.start()", "yield 0 * problem.start()")}, {"Still"}),
        ({"mine": MINE.replace('"""As linear regression."""', "extra: float = 1.0")}, {"Mine"}),
        ({"mine": MINE.replace("UNUSED = 1", "UNUSED = print")}, set()),
        ({"mine": MINE.replace("UNUSED = 1", "import torch\n\ntorch.manual_seed(1)")}, {"Signs", "Still", "Mine"}),
        ({"helpers": FILES["helpers"] + "\n\ndef another():\n    return 3\n"}, set()),
    ],
)
def test_a_file_may_hold_several_classes(texts, names, package):
    assert changed(texts, package) == names


def test_comments_docstrings_annotations_and_order_do_not_count(package):
    text = MINE.replace("  # down", "").replace('"""The iterates."""', '"""Other words."""')
    text = text.replace("def scaled(w, factor=TWICE):", "def scaled(w: float, factor: int = TWICE) -> float:")
    at, end = text.index("class Options"), text.index("class Base")
    text = text[:at] + text[end:] + "\n\n" + text[at:end]  # Options last
    assert changed({"mine": text}, package) == set()


def test_names_of_files_and_folders_do_not_count(package, tmp_path):
    moved = package(helpers="from .inner.things import *\n", **{"exports": "from .inner.steps import step\n"})
    folder = tmp_path / moved.partition(".")[0] / "inner"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "things.py").write_text(FILES["helpers"].replace("from .deep", "from ..deep"))
    (folder / "steps.py").write_text("from ..deep import step\n")
    assert codes(moved) == codes(package())


def test_what_changed_is_named(package):
    def parts(module: str) -> dict[str, str]:
        solver = find("solver", f"{module}:Signs")(depth=1)
        return fingerprint.code_parts(Case(task=TASK, solver=solver, protocol=QUICK))

    first = parts(package())
    module = package(deep=FILES["deep"].replace("LOW = 1", "LOW = 3"))
    assert fingerprint.changed(first, parts(module)) == [f"{module.partition('.')[0]}/deep.py:LOW"]
    assert fingerprint.changed(first, parts(package())) == []
    assert fingerprint.changed({"solvers/base.py": "x"}, first) == ["the way in which fingerprints are taken has"]


def test_shipped_classes_have_what_they_stand_on_and_no_other_solver():
    def parts(solver) -> set[str]:
        return set(fingerprint.code_parts(Case(task=TASK, solver=solver, protocol=QUICK)))

    memformer = parts(Memformer(depth=1, memory="cgd", preconditioner="full"))
    assert {"solvers/memformer.py:Memformer", "solvers/base.py:Solver", "tasks/problem.py:Quadratic"} <= memformer
    assert {"harness/training/adam.py:update", "harness/compiler/streams.py:philox"} <= memformer
    assert {"harness/spec/protocol.py:Protocol", "harness/store/schema.py:BLOCKS"} <= memformer
    assert {"harness/compiler/prelude.h:prelude.h", "harness/compiler/random.h:random.h"} <= set(memformer)
    assert not [
        part for part in memformer if part.startswith(("harness/store/store", "harness/scheduler", "harness/cli"))
    ]
    assert (
        not {"harness/spec/protocol.py:PROTOCOLS", "solvers/__init__.py:SOLVERS", "harness/errors.py:UserError"}
        & memformer
    )
    gd, cg = parts(GradientDescent(depth=1, step=0.1)), parts(ConjugateGradient(depth=1))
    assert "solvers/gradient_descent.py:GradientDescent" not in memformer | cg
    assert "solvers/conjugate_gradient.py:ConjugateGradient" not in memformer | gd
    cases = [
        Case(task=TASK, solver=s, protocol=QUICK) for s in (ConjugateGradient(depth=1), ConjugateGradient(depth=2))
    ]
    assert len({fingerprint.code(case) for case in cases}) == 1
    assert fingerprint.code(cases[0]) != fingerprint.code(replace(cases[0], solver=GdPlusPlus(depth=1)))


# Each run in a process of its own, which need not import torch again.
RUNS = """
import json, os, sys
from lfombench.harness import PROTOCOLS, Sweep, run
from lfombench.harness.driver.plan import make_plan
from lfombench.harness.spec.labels import find
from lfombench.harness.store.store import Store
from lfombench.solvers import LinearTransformer
from lfombench.tasks import LinearRegression
from dataclasses import replace
quick = replace(PROTOCOLS["rigorous"], steps=2, batch=4, learning_rates=(0.1,), test_prompts=64)
out = sys.argv[1]
for line in sys.stdin:
    if child := os.fork():
        assert os.waitpid(child, 0)[1] == 0
        continue
    seeds, keep = json.loads(line)
    solvers = [find("solver", "own.mine:Signs")(depth=1), LinearTransformer(depth=1, preconditioner="full")]
    tasks = [LinearRegression(d=2, n=3)]
    sweep = Sweep(name="mine", tasks=tasks, solvers=solvers, protocols=[quick], seeds=range(seeds))
    plan = make_plan(sweep, Store(out), keep_stale=keep)
    done = run(sweep, out, workers=0, mlflow="off", keep_stale=keep)
    told = {"why": plan.why, "ran": done.ran, "done": done.done, "exit_code": done.exit_code}
    print(json.dumps(told), flush=True)
    os._exit(0)
"""


@pytest.fixture
def runs(tmp_path) -> Iterator[subprocess.Popen[str]]:
    """A process that makes a run of every line it reads."""
    command = [sys.executable, "-B", "-c", RUNS, str(tmp_path / "out")]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=tmp_path, stdin=pipe, stdout=pipe, text=True) as process:
        yield process


def test_a_stale_job_runs_again_and_its_old_rows_are_set_aside(tmp_path, runs):
    """The code of one of two solvers changes: its jobs alone run again, unless they may be kept; no board has both."""
    out, folder = str(tmp_path / "out"), tmp_path / "own"
    folder.mkdir()
    for file, text in FILES.items():
        (folder / f"{file}.py").write_text(text)

    def run(seeds: int, keep: bool = False) -> dict:
        runs.stdin.write(f"{json.dumps([seeds, keep])}\n")
        runs.stdin.flush()
        return json.loads(runs.stdout.readline())

    def losses() -> dict[str, list[float]]:
        rows = (
            table(out, "results").filter((pl.col("step") == 1) & (pl.col("seed") < 3)).collect().sort("solver", "seed")
        )
        return {solver: some["mse"].to_list() for (solver,), some in rows.group_by("solver")}

    assert run(3)["ran"] == 6
    before = losses()
    (folder / "deep.py").write_text(FILES["deep"].replace("step = 0.1", "step = 0.2"))
    assert run(4, keep=True) == {"why": {"new": 2}, "ran": 2, "done": 8, "exit_code": 0}
    assert boards(Tables(out), *sweeps(out)).mixed == ["own/deep.py:step"]
    why = {"stale: own/deep.py:step changed": 3}
    assert run(3) == {"why": why, "ran": 3, "done": 6, "exit_code": 0}
    assert boards(Tables(out), *sweeps(out)).mixed == []
    after = losses()
    assert after["linear_transformer(preconditioner=full)"] == before["linear_transformer(preconditioner=full)"]
    assert not set(after["own.mine:Signs"]) & set(before["own.mine:Signs"])
    for name, key in (("results", ["job", "test", "step"]), ("jobs", ["job"]), ("curves", ["job", "step"])):
        rows = pl.read_parquet(f"{out}/{name}/*.parquet")
        assert len(rows) == len(rows.unique(key)), name
    aside = pl.concat(pl.read_parquet(path) for path in Path(out, "stale").glob("results-*.parquet"))
    assert sorted(aside.filter(pl.col("step") == 1)["mse"]) == sorted(before["own.mine:Signs"])


def test_a_class_in_a_zip_is_read(tmp_path, monkeypatch, caplog):
    with zipfile.ZipFile(tmp_path / "zipped.zip", "w") as archive:
        for file, text in FILES.items():
            archive.writestr(f"in_a_zip/{file}.py", text)
    monkeypatch.syspath_prepend(str(tmp_path / "zipped.zip"))
    solver = find("solver", "in_a_zip.mine:Signs")(depth=1)
    with caplog.at_level(logging.WARNING, "lfombench"):
        parts = fingerprint.code_parts(Case(task=TASK, solver=solver, protocol=QUICK))
    assert {"in_a_zip/mine.py:Signs", "in_a_zip/deep.py:LOW"} <= parts.keys()
    assert not caplog.records
