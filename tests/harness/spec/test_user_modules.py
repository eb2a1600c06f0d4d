"""What lies in the current folder: the user's modules are found first, and nothing there harms lfombench."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lfombench.harness.spec.user_modules import needed

MINE = """\
from dataclasses import dataclass
from typing import ClassVar

from lfombench.solvers import Method
from helper import SIGN


@dataclass(frozen=True, kw_only=True)
class Mine(Method):
    family: ClassVar = "classical"

    def iterates(self, params, problem):
        w = problem.start()
        yield w
        for _ in range(self.depth):
            w = w + SIGN * 0.1 * problem.gradient(w)
            yield w
"""
SWEEP = """\
name: own
protocol: {use: published, test_prompts: 64}
tasks: [linear_regression: {d: 2, n: 4}]
solvers: ['mine:Mine': {depth: 1}, conjugate_gradient: {depth: 1}]
"""
# Modules of Python, of what lfombench requires, of what that requires; folders like ours; and a clone of lfombench.
TRAPS = (
    *("random.py", "torch.py", "ray/__init__.py", "polars.py", "yaml.py", "sqlalchemy/__init__.py", "rich.py"),
    *("tasks/__init__.py", "solvers/__init__.py", "harness/__init__.py", "numpy/__init__.py", "click/decorators.py"),
    *("lfombench/solvers/__init__.py", "lfombench/harness/__init__.py", "lfombench/tasks/__init__.py"),
)


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder with a solver of the user's own, and with everything that could be taken for something else."""
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "helper.py").write_text("SIGN = -1.0\n")
    (tmp_path / "own.yaml").write_text(SWEEP)
    for trap in TRAPS:
        path = tmp_path / trap
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"raise SystemExit('{trap} was imported')\n")
    return tmp_path


def lfombench(folder: Path, *arguments: str, module: bool = True, **environment: str) -> str:
    command = [sys.executable, "-m", "lfombench"] if module else [str(Path(sys.executable).parent / "lfombench")]
    environment = os.environ | environment
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, cwd=folder, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_nothing_in_the_folder_harms_the_commands(folder):
    assert "2 to run" in lfombench(folder, "plan", "own.yaml", module=False)
    assert "2 jobs in" in lfombench(folder, "run", "own.yaml", "--workers", "0", "--mlflow", "off")
    assert "mine:Mine" in lfombench(folder, "board")


def test_nor_an_installed_package(folder, tmp_path_factory):
    """A wheel, as users have it, and not this checkout."""
    site = tmp_path_factory.mktemp("site")
    source = tmp_path_factory.mktemp("source") / "lfombench"
    root = Path(__file__).resolve().parents[3]
    shutil.copytree(root, source, ignore=shutil.ignore_patterns(".*", "build", "*.egg-info", "out", "tests"))
    pip = [sys.executable, "-m", "pip"]
    install = ["install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", site, source]
    subprocess.run([*pip, *map(str, install)], check=True, capture_output=True)
    with (site / "lfombench" / "__init__.py").open("a") as code:
        code.write("print('this is the installed one')\n")
    told = lfombench(folder, "run", "own.yaml", "--workers", "0", "--mlflow", "off", PYTHONPATH=str(site))
    assert "this is the installed one" in told
    assert "2 jobs in" in told


def test_nor_python_in_a_folder_with_another_clone(folder):
    """Whose folders are named as ours. A torch.py there is another matter: Python itself finds it first."""
    for trap in TRAPS:
        if not trap.startswith(("tasks", "solvers", "harness")):
            (folder / trap).unlink()
    shutil.rmtree(folder / "lfombench")
    code = "import lfombench; print(lfombench.run('own.yaml', 'out', workers=0, mlflow='off').exit_code)"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.stdout == "0\n", done.stderr


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_nor_workers_on_ray(folder):
    assert "2 jobs in" in lfombench(folder, "run", "own.yaml", "--workers", "1", "--mlflow", "off")


def test_a_module_of_the_folder_wins_over_an_installed_one(folder, tmp_path_factory):
    installed = tmp_path_factory.mktemp("installed")
    for name in ("mine.py", "helper.py"):
        (installed / name).write_text("raise SystemExit('the installed one was imported')\n")
    (installed / "far.py").write_text("SIGN = -1.0\n")  # what is not in the folder is found as ever
    (installed / "own.py").mkdir()
    (folder / "helper.py").write_text("from far import SIGN\n")
    assert "2 to run" in lfombench(folder, "plan", "own.yaml", PYTHONPATH=str(installed))


def test_what_lfombench_needs_is_known():
    assert {"torch", "ray", "mlflow", "numpy", "yaml", "sqlalchemy", "attrs", "typing_extensions"} <= needed()
    assert not {"mine", "helper", "lfombench", "pytest", ""} & needed()
