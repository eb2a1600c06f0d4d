"""A store names classes; whoever wrote it must not thereby choose what runs here."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from lfombench.analysis.results import table
from lfombench.harness import PROTOCOLS, load
from lfombench.harness.driver.explain import case_of
from lfombench.harness.errors import UserError
from lfombench.harness.spec.labels import plain, spec_of
from lfombench.harness.spec.named import task_of
from lfombench.harness.spec.trust import ALLOWED, allowing_code, named_by_a_store
from lfombench.solvers import ConjugateGradient
from lfombench.tasks import LinearRegression
from tests.commands import lfombench, process

OWN = """\
import dataclasses, pathlib
from lfombench.solvers import LinearTransformer
pathlib.Path({mark!r}).touch()
@dataclasses.dataclass(frozen=True, kw_only=True)
class Own(LinearTransformer): pass
"""
SWEEP = """\
name: own
protocol: {use: rigorous, steps: 20, batch: 8, learning_rates: [0.01], test_prompts: 64}
seeds: 1
tasks: [linear_regression: {d: 2, n: 3}]
solvers: ['owned_solver:Own': {depth: 1, preconditioner: full}]
"""


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with a store that names code beside it, which leaves a mark when it is imported; and the job's id."""
    folder = tmp_path_factory.mktemp("theirs")
    (folder / "owned_solver.py").write_text(OWN.format(mark=str(folder / "imported")))
    (folder / "own.yaml").write_text(SWEEP)
    done = process("run", "own.yaml", "--out", "out", "--workers", "0", "--mlflow", "off", cwd=folder)
    assert done.returncode == 0, done.stderr
    [job] = table(str(folder / "out"), "jobs").collect()["job"]
    (folder / "imported").unlink()
    return folder, job


@pytest.mark.parametrize("command", [("why",), ("reproduce",), ("mlflow", "register")])
def test_commands_that_read_a_store_do_not_import_what_it_names(theirs, command, monkeypatch):
    folder, job = theirs
    monkeypatch.chdir(folder)
    done = lfombench(*command, job, "--out", "out")
    assert done.returncode == 1
    assert "the store names a solver of other code than lfombench's, owned_solver:Own" in done.stderr
    assert "--allow-code" in done.stderr
    assert not (folder / "imported").exists()


def test_who_trusts_it_says_so(theirs, monkeypatch):
    """By an option, or a variable where a command is not ours. The sweep's own file says it as well."""
    folder, job = theirs
    monkeypatch.chdir(folder)
    done = process("why", job, "--out", "out", "--allow-code", cwd=folder)
    assert done.stdout.startswith(f"{job}: done."), done.stderr
    assert (folder / "imported").exists()
    again = process("run", "own.yaml", "--out", "out", "--workers", "0", "--mlflow", "off", cwd=folder)
    assert "nothing to run" in again.stdout


def test_the_boards_the_report_and_queries_import_nothing(theirs, monkeypatch):
    folder, _ = theirs
    monkeypatch.chdir(folder)
    (folder / "imported").unlink(missing_ok=True)
    for command in (["board"], ["report"], ["status"], ["query", "SELECT solver FROM jobs"]):
        done = lfombench(*command, "--out", "out")
        assert done.returncode == 0, done.stderr
    assert not (folder / "imported").exists()
    assert "owned_solver" not in sys.modules


CG = spec_of(ConjugateGradient(depth=1))
LINEAR = spec_of(LinearRegression(d=2, n=3))
SPEC = {"task": LINEAR, "solver": CG, "protocol": plain(PROTOCOLS["rigorous"])}
EVIL = {"no_such_module:Evil": {"d": 2, "n": 3, "depth": 1}}


def of_a_mixture(solver: object, task: object) -> dict[str, object]:
    """The spec of a job whose solver has an expert."""
    job = next(job for job in load("moe").jobs() if job.experts)
    spec = json.loads(json.dumps({"task": spec_of(job.task), "solver": spec_of(job.solver), "protocol": {}}))
    [values] = spec["solver"].values()
    values["experts"][0] |= {name: one for name, one in (("solver", solver), ("task", task)) if one}
    return spec


@pytest.mark.parametrize(
    "spec",
    [SPEC | {"task": EVIL}, SPEC | {"solver": EVIL}, of_a_mixture(EVIL, None), of_a_mixture(None, EVIL)],
    ids=["task", "solver", "an expert's solver", "an expert's task"],
)
def test_wherever_in_a_job_the_name_stands(spec):
    with pytest.raises(UserError, match="no_such_module:Evil, and to import that would run it"):
        case_of(spec)


def test_nor_from_the_label_of_a_further_test():
    with named_by_a_store(), pytest.raises(UserError, match="no_such_module:Evil, and to import that would run it"):
        task_of("no_such_module:Evil(d=2, n=3)")


def test_what_is_imported_already_may_be_used_and_a_variable_allows_the_rest(monkeypatch):
    case_of(SPEC | {"task": {"lfombench.tasks.linear_regression:LinearRegression": {"d": 2, "n": 3}}})
    with allowing_code(), pytest.raises(UserError, match="cannot be imported"):
        case_of(SPEC | {"task": EVIL})
    monkeypatch.setenv(ALLOWED, "1")
    with pytest.raises(UserError, match="cannot be imported"):
        case_of(SPEC | {"task": EVIL})
