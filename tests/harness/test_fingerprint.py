"""The code behind a number: what counts as another, and what a run does then."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from lfombench.analysis.board import boards
from lfombench.analysis.results import Tables, sweeps, table
from lfombench.harness import PROTOCOLS, Sweep, run
from lfombench.harness.driver.plan import make_plan
from lfombench.harness.spec import fingerprint
from lfombench.harness.spec.job import Case
from lfombench.harness.spec.labels import find
from lfombench.harness.store.store import Store
from lfombench.solvers import ConjugateGradient, GdPlusPlus, LinearTransformer, Memformer
from lfombench.tasks import LinearRegression

QUICK = replace(PROTOCOLS["rigorous"], steps=2, batch=4, learning_rates=(0.1,), test_prompts=64)
TASK = LinearRegression(d=2, n=3)
CACHES = [cached for cached in vars(fingerprint).values() if hasattr(cached, "cache_clear")]

SOLVER = '''\
"""Mine."""
from dataclasses import dataclass
from typing import ClassVar

from lfombench.solvers import Method
from helpers import step


@dataclass(frozen=True, kw_only=True)
class Signs(Method):
    """Sign descent."""

    family: ClassVar = "classical"

    def iterates(self, params, problem):
        """The iterates."""
        w = problem.start()
        yield w
        for _ in range(self.depth):
            w = w - step * problem.gradient(w).sign()  # down
            yield w
'''


def case(solver) -> Case:
    return Case(task=TASK, solver=solver, protocol=QUICK)


def test_it_holds_what_a_solver_stands_on_and_no_other_solver():
    found = fingerprint.code_modules(case(Memformer(depth=1, memory="cgd", preconditioner="full")))
    names = {name.removesuffix(".py").replace("/", ".") for name in found}
    assert {"solvers.memformer", "solvers.base", "solvers.algebra", "tasks.linear_regression", "harness.adam"} <= names
    assert {"harness.engine", "harness.streams", "harness.losses", "harness.lower", "prelude.h"} <= names
    assert not {"solvers.conjugate_gradient", "solvers.gd_plus_plus", "harness.store", "harness.schedule"} & names
    assert not {"harness.record", "harness.plan", "harness.cost", "harness.errors", "solvers"} & names
    assert len({fingerprint.code(case(s)) for s in (ConjugateGradient(depth=1), GdPlusPlus(depth=1))}) == 2
    assert fingerprint.code(case(ConjugateGradient(depth=1))) == fingerprint.code(case(ConjugateGradient(depth=2)))


def forget() -> None:
    """All that was read of sources."""
    for cached in CACHES:
        cached.cache_clear()


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A solver of one's own in two files; call it with the changed text of one of them."""
    files = {"signs_mine.py": SOLVER, "helpers.py": "step = 0.1\n"}
    monkeypatch.syspath_prepend(tmp_path)

    def write(**texts: str) -> type:
        for name, text in (files | {f"{name}.py": text for name, text in texts.items()}).items():
            (tmp_path / name).write_text(text)
        for name in ("signs_mine", "helpers"):
            sys.modules.pop(name, None)
        forget()
        sys.dont_write_bytecode = True
        return find("solver", "signs_mine:Signs")

    yield write
    sys.dont_write_bytecode = False
    forget()


@pytest.mark.parametrize(
    ("texts", "same"),
    [
        ({}, True),
        ({"signs_mine": SOLVER.replace("  # down", "").replace('"""The iterates."""', '"""Other words."""')}, True),
        ({"signs_mine": SOLVER.replace("w - step", "w - 2 * step")}, False),
        ({"helpers": "step = 0.2\n"}, False),
        ({"helpers": "# of all steps\nstep = 0.1\n"}, True),
    ],
)
def test_comments_do_not_count_and_equations_do(mine, texts, same):
    first = fingerprint.code(case(mine()(depth=1)))
    assert (fingerprint.code(case(mine(**texts)(depth=1))) == first) == same


def test_what_changed_is_named(mine):
    first = fingerprint.code_modules(case(mine()(depth=1)))
    again = fingerprint.code_modules(case(mine(helpers="step = 0.2\n")(depth=1)))
    assert fingerprint.changed(first, again) == ["helpers.py"]


def test_a_stale_job_runs_again_and_its_old_rows_are_set_aside(mine, tmp_path):
    """Equations of one of two solvers change: its jobs alone run again, unless they may be kept; no board has both."""
    out = str(tmp_path / "out")

    def sweep(cls) -> Sweep:
        solvers = [cls(depth=1), LinearTransformer(depth=1, preconditioner="full")]
        return Sweep(name="mine", tasks=[TASK], solvers=solvers, protocols=[QUICK], seeds=range(3))

    def losses() -> dict[str, list[float]]:
        rows = (
            table(out, "results").filter((pl.col("step") == 1) & (pl.col("seed") < 3)).sort("solver", "seed").collect()
        )
        return {solver: mine["mse"].to_list() for (solver,), mine in rows.group_by("solver")}

    assert run(sweep(mine()), out, workers=0, mlflow="off").ran == 6
    before = losses()
    changed = mine(helpers="step = 0.2\n")
    more = replace(sweep(changed), seeds=range(4))
    kept = run(more, out, workers=0, mlflow="off", keep_stale=True)
    assert (kept.ran, kept.done) == (2, 8)
    [wanted] = sweeps(out)
    assert boards(Tables(out), wanted).mixed == ["helpers.py"]
    plan = make_plan(sweep(changed), Store(out), 1)
    assert plan.why == {"stale: helpers.py changed": 3}
    again = run(sweep(changed), out, workers=0, mlflow="off")
    assert (again.ran, again.done, again.exit_code) == (3, 6, 0)
    [wanted] = sweeps(out)
    assert boards(Tables(out), wanted).mixed == []
    after = losses()
    assert after["linear_transformer(preconditioner=full)"] == before["linear_transformer(preconditioner=full)"]
    assert not set(after["signs_mine:Signs"]) & set(before["signs_mine:Signs"])
    for name, key in (("results", ["job", "test", "step"]), ("jobs", ["job"]), ("curves", ["job", "step"])):
        rows = pl.read_parquet(f"{out}/{name}/*.parquet")
        assert len(rows) == len(rows.unique(key)), name
    aside = pl.concat(pl.read_parquet(path) for path in Path(out, "stale").glob("results-*.parquet"))
    assert sorted(aside.filter(pl.col("step") == 1)["mse"]) == sorted(before["signs_mine:Signs"])


def test_a_class_defined_anywhere_has_a_fingerprint():
    """In a notebook or a test, where there may be no file."""
    made = type("Odd", (ConjugateGradient,), {"__module__": "nowhere"})
    assert fingerprint.modules(made.__module__, "lfombench.tasks.linear_regression")
