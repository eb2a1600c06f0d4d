"""What the source promises of itself: which folder may import which, and what is in the package."""

from __future__ import annotations

import ast
import importlib.metadata
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("harness", "tasks", "solvers", "analysis", "cluster")
MODULES = {f"{folder}.{path.stem}": path for folder in FOLDERS for path in sorted((ROOT / folder).glob("*.py"))}

# folder -> what it may import of the others
MAY = {
    "tasks": set(),
    "solvers": set(),
    "analysis": {"harness.schema", "harness.place", "harness.ledger"},
    "cluster": {"harness.errors", "harness.address"},
}
# inside the harness, from the top down: a module may import only those to its right
ORDER = [
    *(
        "cli",
        "running",
        "remote",
        "reading",
        "keeping",
        "explain",
        "merge",
        "standing",
        "options",
        "ui",
        "listing",
        "show",
        "lines",
        "launch",
        "desk",
        "planned",
        "schedule",
        "share",
        "track",
        "wanted",
        "writer",
        "weights",
        "shelf",
        "workers",
        "faults",
        "tidy",
        "store",
        "record",
        "portrait",
        "losses",
        "audit",
        "plan",
        "todo",
        "fingerprint",
        "cost",
        "probe",
        "engine",
        "warm",
        "kept",
        "fitted",
        "evaluate",
        "adam",
        "pack",
        "program",
        "native",
        "inductor",
        "lower",
        "loops",
        "memory",
        "scalars",
        "rules",
        "regions",
        "views",
        "atoms",
        "indices",
        "checkpoint",
        "step",
        "profile",
    ),
    *("parse", "entries", "refine", "sweep", "document", "job", "build", "names", "expert", "streams", "protocol"),
    *("lease", "ledger", "place", "address", "progress", "words", "errors", "signals", "schema"),
]


def imported(path: Path) -> set[str]:
    """Modules of this project that a file imports, as folder.module; inside functions too."""
    folder = path.parent.name
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            found |= {f"{folder}.{node.module}"} if node.module else {f"{folder}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lfombench."):
            _, _, rest = node.module.partition(".")
            found |= {f"{rest}.{alias.name}" for alias in node.names} if f"{rest}.__init__" in MODULES else {rest}
        elif isinstance(node, ast.Import):
            assert not any(alias.name.startswith("lfombench") for alias in node.names), (
                "say `from lfombench.x import y`"
            )
    return found


@pytest.mark.parametrize("name", [name for name in MODULES if not name.startswith("harness")])
def test_folders_know_only_what_they_may(name):
    folder = name.partition(".")[0]
    for other in imported(MODULES[name]):
        assert other.partition(".")[0] == folder or other in MAY[folder], f"{name} imports {other}"


@pytest.mark.parametrize(
    "name", [name for name in MODULES if name.startswith("harness.") and not name.endswith("__init__")]
)
def test_the_harness_imports_one_way(name):
    below = ORDER[ORDER.index(name.partition(".")[2]) + 1 :]
    if "TYPE_CHECKING" in MODULES[name].read_text():
        tree = ast.parse(MODULES[name].read_text())
        assert any(isinstance(node, ast.If) for node in tree.body)
    for other in imported(MODULES[name]) - typing_only(MODULES[name]):
        folder, _, module = other.partition(".")
        if folder == "harness":
            assert module in below, f"{name} imports {other}"
    if name in ("harness.engine", "harness.evaluate", "harness.adam", "harness.pack"):
        assert not {"ray", "pyarrow", "polars", "mlflow", "os", "pathlib"} & outside(MODULES[name])


def typing_only(path: Path) -> set[str]:
    """Modules imported for annotations alone."""
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            found |= {
                f"harness.{sub.module}" for sub in node.body if isinstance(sub, ast.ImportFrom) and sub.level == 1
            }
    return found


def outside(path: Path) -> set[str]:
    """Top-level packages a file imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").partition(".")[0])
    return found


def test_only_the_scheduler_and_the_outermost_layers_catch_everything():
    allowed = {"harness.faults", "harness.track", "harness.cli"}
    allowed |= {"harness.parse", "harness.names"}  # around a user's file and a user's module, which may raise anything
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ExceptHandler) and (
                node.type is None
                or (isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException"))
            ):
                assert name in allowed, f"{name} catches everything"


def test_every_folder_is_mapped_typed_and_documented():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    mapped = project["tool"]["setuptools"]["package-dir"]
    for folder in FOLDERS:
        assert mapped[f"lfombench.{folder}"] == folder
        assert (ROOT / folder / "py.typed").is_file()
    readme = (ROOT / "README.md").read_text()
    for name, path in MODULES.items():
        if path.stem != "__init__":
            assert f"{path.stem}.py" in readme, f"the README's map lacks {name}"


def test_the_installed_package_has_its_sweeps_and_command():
    from lfombench.harness.spec.loader import shipped

    assert {"fig1", "paper", "redraws"} <= set(shipped())
    [script] = [e for e in importlib.metadata.distribution("lfombench").entry_points if e.name == "lfombench"]
    assert script.load().__name__ == "main"


@pytest.mark.xdist_group("ray")
def test_the_runner_knows_groups(request):
    """Two Rays at once starve each other; pytest 9.2 beside pytest-xdist 3.8 forgot groups without a word."""
    if request.config.getoption("loadgroup", False):
        assert request.node.nodeid.endswith("@ray")
