"""Nodes of a cluster that have something else than the driver get no work, and are named."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lfombench.harness import PROTOCOLS, Sweep
from lfombench.harness.errors import UserError
from lfombench.harness.scheduler import handshake, schedule
from lfombench.harness.scheduler.on_ray import OnRay
from lfombench.harness.scheduler.packing import PlannedPack
from lfombench.harness.spec.fingerprint import code
from lfombench.harness.spec.labels import find
from lfombench.harness.store.outcome import Outcome
from lfombench.harness.training.pack import Pack
from lfombench.solvers import ConjugateGradient
from lfombench.tasks import LinearRegression
from tests.builders import NoRecord, two_packs
from tests.nodes import ENVIRONMENT, Head, Node

ROOT = Path(__file__).parents[3]
QUICK = replace(PROTOCOLS["rigorous"], steps=2, batch=4, learning_rates=(0.1,), test_prompts=64)


def sweep(name: str, *solvers: object) -> Sweep:
    """Of several packs, so that every node gets some."""
    tasks = [LinearRegression(d=2, n=n) for n in (3, 4, 5, 6)]
    return Sweep(name=name, tasks=tasks, solvers=[*solvers], protocols=[QUICK], seeds=range(2))


def ran_when_one_is_left_out(packs: list[Pack], address: str) -> list[tuple[PlannedPack, Outcome]]:
    """Run packs on a cluster of two nodes, once one of them is known to get no work and the other has a worker."""
    executor = OnRay(address)
    try:
        executor.fit([*map(PlannedPack, packs)])
        while not (executor.nodes.left_out and any(executor.idle().values())):
            executor.poll(1.0)
        assert len(executor.nodes.left_out) == 1
        return list(schedule.outcomes(map(PlannedPack, packs), executor, NoRecord()))
    finally:
        executor.close()


@pytest.fixture(scope="module")
def other_code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with another lfombench: its conjugate gradients take wrong steps."""
    folder = tmp_path_factory.mktemp("other")
    for room in ("harness", "tasks", "solvers", "analysis", "cluster"):
        shutil.copytree(ROOT / room, folder / "lfombench" / room, ignore=shutil.ignore_patterns("__pycache__"))
    for path in (ROOT / "api").iterdir():
        if path.is_file():
            shutil.copy(path, folder / "lfombench")
    source = folder / "lfombench" / "solvers" / "conjugate_gradient.py"
    text = source.read_text()
    assert text.count("w + a * p") == 1
    source.write_text(text.replace("w + a * p", "w + 0.9 * a * p"))
    return folder


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_a_node_with_another_version_of_a_solver_gets_no_work(head: Head, tmp_path, other_code, caplog):
    """It gave wrong numbers, which were committed, and running again gave them again."""
    packs = [Pack((job,)) for job in sweep("mixed", ConjugateGradient(depth=2)).jobs()]
    environment = ENVIRONMENT | {"PYTHONPATH": str(other_code)}
    with Node(tmp_path, "other", "127.0.0.1", "--num-cpus=2", f"--address={head.address}", environment=environment):
        ran = ran_when_one_is_left_out(packs, head.address)
    rows = [row for _, outcome in ran for row in outcome.tables["results"].to_pylist()]
    exact = [row["mse"] for row in rows if row["step"] == 2]
    assert len(exact) == len(packs)
    assert max(exact) < 1e-6  # two steps in two dimensions; not with 0.9 of a step
    assert {row["code"] for row in rows} == {code(packs[0].first.case)}
    said = [record.getMessage() for record in caplog.records if "gets no work" in record.getMessage()]
    assert len(said) == 1
    assert "solvers/conjugate_gradient.py:ConjugateGradient is another there" in said[0]


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_a_node_that_lacks_a_module_leaves_it_to_those_that_have_it(head: Head, tmp_path, monkeypatch, caplog):
    """Its jobs failed there."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "not_everywhere.py").write_text(
        "import dataclasses\n"
        "from lfombench.solvers import ConjugateGradient\n"
        "@dataclasses.dataclass(frozen=True, kw_only=True)\n"
        "class Own(ConjugateGradient): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path / "code")
    own = find("solver", "not_everywhere:Own")
    environment = ENVIRONMENT | {"PYTHONPATH": f"{tmp_path / 'code'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    with Node(tmp_path, "has", "127.0.0.1", "--num-cpus=1", f"--address={head.address}", environment=environment):
        packs = [Pack((job,)) for job in sweep("own", own(depth=1), own(depth=2)).jobs()]
        ran = ran_when_one_is_left_out(packs, head.address)
    rows = [row for _, outcome in ran for row in outcome.tables["jobs"].to_pylist()]
    assert [(row["status"], row["reason"]) for row in rows] == [("done", None)] * len(packs)
    assert "gets no work: ModuleNotFoundError: No module named 'not_everywhere'" in caplog.text


def test_differences_are_said_in_words():
    asked = handshake.question([])
    theirs = dict(asked.versions) | {"PyTorch": "1.0", "Python": "3.9"}
    theirs.pop("ray")
    found = handshake.Answer("id", "node7", "", theirs)
    said = handshake.differences(asked, found)
    assert said == [
        f"Python is 3.9 there, and {asked.versions['Python']} here",
        f"PyTorch is 1.0 there, and {asked.versions['PyTorch']} here",
        f"ray is missing there, and {asked.versions['ray']} here",
    ]
    assert handshake.differences(asked, replace(found, versions=asked.versions)) == []


def test_a_worker_finds_its_own_code():
    asked = handshake.question(two_packs(2))
    assert len(asked.cases) == 1
    found = handshake.answer(asked, "id", "")
    assert (found.other, found.missing) == ({}, {})
    changed = replace(asked, cases={"0123": next(iter(asked.cases.values())), "4567": b"no pickle"})
    found = handshake.answer(changed, "id", "")
    assert found.other.keys() == {"0123"}
    assert found.missing.keys() == {"4567"}


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_where_no_node_fits_the_run_ends_and_says_what_differs(head: Head, tmp_path, monkeypatch):
    versions = handshake.versions()
    monkeypatch.setattr(handshake, "versions", lambda: versions | {"PyTorch": "99.0"})
    executor = OnRay(head.address, workers=2)
    try:
        with pytest.raises(UserError, match=r"no node of the cluster has .*\n  .*: PyTorch is .* there, and 99.0 here"):
            list(schedule.outcomes(map(PlannedPack, two_packs(2)), executor, NoRecord()))
    finally:
        executor.close()


def test_rows_of_other_code_are_known():
    pack = two_packs(2)[0]
    right = handshake.question([pack]).cases.keys()
    assert not handshake.foreign(pack, right)
    assert handshake.foreign(pack, [*right, "0123"])


SCRIPT = """\
import dataclasses, sys
from lfombench.harness import PROTOCOLS, Sweep, run
from lfombench.solvers import ConjugateGradient
from lfombench.tasks import LinearRegression

@dataclasses.dataclass(frozen=True, kw_only=True)
class Own(ConjugateGradient):
    pass

def made():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Inner(ConjugateGradient):
        pass
    return Inner

protocol = dataclasses.replace(PROTOCOLS["published"], test_prompts=64)
solvers = [Own(depth=1), made()(depth=1), ConjugateGradient(depth=1)]
sweep = Sweep(name="script", tasks=[LinearRegression(d=2, n=3)], solvers=solvers, protocols=[protocol], seeds=range(2))
summary = run(sweep, sys.argv[1], address=sys.argv[2], workers=2, mlflow="off")
print(summary.ran, summary.failed)
"""


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_classes_that_a_script_or_a_function_makes_run_on_workers(head: Head, tmp_path):
    """As from a notebook: Ray sends them whole, and no file of theirs is anywhere."""
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, "script.py", "out", head.address]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert done.stdout.endswith("6 []\n"), done.stdout + done.stderr
