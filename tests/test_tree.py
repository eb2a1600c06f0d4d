"""What the source promises of itself: which room may import which, what is in the package, and the map in the docs."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch

from lfombench.harness.store.drivers import file_of
from lfombench.harness.store.filesystem import place
from lfombench.harness.training.adam import clipped

ROOT = Path(__file__).parents[1]
FOLDERS = ("api", "harness", "tasks", "solvers", "analysis", "cluster")
MODULES = {
    path.relative_to(ROOT).with_suffix("").as_posix().replace("/", "."): path
    for folder in FOLDERS
    for path in sorted((ROOT / folder).rglob("*.py"))
}
PACKAGES = {name.removesuffix(".__init__") for name in MODULES if name.endswith(".__init__")}

# The rooms of the harness from the top down: a room may import those below it and not those on its own floor.
FLOORS = [["cli"], ["driver"], ["scheduler"], ["training", "tracking"], ["spec", "compiler", "store"]]
# What the harness's rooms may use besides; `api` is the package itself.
OTHERS = {
    "cli": {"analysis", "cluster", "solvers", "tasks"},
    "driver": {"analysis", "solvers", "tasks"},
    "scheduler": {"solvers", "tasks"},
    "training": {"solvers", "tasks"},
    "spec": {"solvers", "tasks"},
    "compiler": {"tasks"},
    "store": set(),
    "tracking": set(),
}
# What the other folders may use, besides themselves.
MAY = {
    "tasks": set(),
    "solvers": set(),
    "analysis": {
        "harness.errors",
        *(
            f"harness.store.{name}"
            for name in ("schema", "filesystem", "snapshots", "version", "tables", "rows", "manifest", "side_files")
        ),
    },
    "cluster": {"harness.errors", "harness.redact", "harness.scheduler.address"},
    "api": {
        "analysis.opened",
        "harness.cli.main",
        "harness.driver.reported",
        "harness.spec.loader",
        "harness.spec.sweep",
    },
}


def imported(name: str, typing_too: bool = True) -> set[str]:
    """Modules of this project that a module imports, inside functions too; those for annotations alone if asked."""
    package = name.removesuffix(".__init__") if name.endswith(".__init__") else name.rpartition(".")[0]
    tree = ast.parse(MODULES[name].read_text())
    skipped = set() if typing_too else {sub for node in ast.walk(tree) if is_for_typing(node) for sub in ast.walk(node)}
    found: set[str] = set()
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            assert not any(alias.name.startswith("lfombench") for alias in node.names), (
                "say `from lfombench.x import y`"
            )
        if not isinstance(node, ast.ImportFrom):
            continue
        if node.level:
            parents = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*parents, *([node.module] if node.module else [])])
        elif (node.module or "").startswith("lfombench."):
            base = node.module.partition(".")[2]
        else:
            continue
        inner = {f"{base}.{alias.name}" for alias in node.names}
        found |= {one if one in MODULES or one in PACKAGES else base for one in inner}
    return found


def is_for_typing(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def room(name: str) -> str:
    """The room of a module of the harness; empty for those at its root."""
    parts = name.split(".")
    return parts[1] if len(parts) > 2 or f"harness.{parts[1]}" in PACKAGES else ""


def arrows() -> set[tuple[str, str]]:
    """From every room and folder to those that it imports; `harness` stands for what is at its root."""

    def place(module: str) -> str:
        folder = module.partition(".")[0]
        return (room(module) or folder) if folder == "harness" else folder

    pairs = {(place(name), place(other)) for name in MODULES for other in imported(name)}
    return {(one, two) for one, two in pairs if one != two}


@pytest.mark.parametrize("name", [name for name in MODULES if not name.startswith("harness")])
def test_folders_know_only_what_they_may(name):
    folder = name.partition(".")[0]
    for other in imported(name):
        assert other.partition(".")[0] == folder or other in MAY[folder], f"{name} imports {other}"


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("harness.") and room(name)])
def test_rooms_import_one_way(name):
    here = room(name)
    [floor] = [i for i, rooms in enumerate(FLOORS) if here in rooms]
    below = {one for rooms in FLOORS[floor + 1 :] for one in rooms} | {here, ""}
    for other in imported(name, typing_too=False):
        if other.startswith("harness"):
            assert room(other) in below, f"{name} imports {other}"
        else:
            assert other.partition(".")[0] in OTHERS[here], f"{name} imports {other}"


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("harness.") and not room(name)])
def test_the_root_of_the_harness_imports_nothing(name):
    assert not {other for other in imported(name) if room(other)}


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_within_a_package_no_imports_go_in_a_circle(package):
    inside = {name: imported(name, typing_too=False) for name in MODULES if name.rpartition(".")[0] == package}
    while inside:
        leaves = [name for name, others in inside.items() if not others & (inside.keys() - {name})]
        assert leaves, f"imports in a circle among {sorted(inside)}"
        for name in leaves:
            del inside[name]


def test_every_room_says_what_it_is_for():
    for name in (one for rooms in FLOORS for one in rooms):
        text = ast.get_docstring(ast.parse((ROOT / "harness" / name / "__init__.py").read_text()))
        assert "Public: " in text, name
        assert len(text.splitlines()) <= 6, name
        for home, names in re.findall(r"\((\w+)\)|`(\w+)`", text):
            if home:
                assert f"harness.{name}.{home}" in MODULES, f"{name} has no module {home}"
            assert not names or names.isidentifier()


def outside(path: Path) -> set[str]:
    """Top-level packages that a file imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").partition(".")[0])
    return found


# What a room must do without: the numbers come from torch alone, and what reads a store starts quickly.
WITHOUT = {
    "training": {"ray", "polars", "mlflow", "click", "rich"},
    "compiler": {"ray", "polars", "mlflow", "pyarrow", "click", "rich"},
    "store": {"torch", "ray", "mlflow", "click", "rich"},
    "spec": {"ray", "polars", "mlflow", "pyarrow", "click", "rich"},
    "tracking": {"torch", "ray", "rich"},
}


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("harness.") and room(name) in WITHOUT])
def test_a_room_does_without(name):
    assert not outside(MODULES[name]) & WITHOUT[room(name)]


def test_only_the_scheduler_and_the_outermost_layers_catch_everything():
    allowed = {
        "harness.scheduler.faults",
        "harness.tracking.database",
        "harness.tracking.artifacts",
        "harness.tracking.client",
        "harness.cli.main",
    }
    allowed |= {
        "analysis.charts",
        "harness.cli.run",
        "harness.driver.doctor",
        "harness.driver.reported",
        "harness.driver.experiments",
    }  # pictures, the report, the view and checks are extra
    allowed |= {
        f"harness.scheduler.{name}" for name in ("on_ray", "ray_start", "attached")
    }  # Ray's start raises anything
    allowed |= {f"harness.scheduler.{name}" for name in ("autoscaler", "fair_share", "view")}  # a Ray that is ending
    allowed |= {"harness.store.behind"}  # a thread that must not end silently
    allowed |= {
        "harness.scheduler.handshake",
        "harness.spec.loader",
        "harness.spec.labels",
    }  # around a user's file and module, which may raise anything
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ExceptHandler) and (
                node.type is None
                or (isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException"))
            ):
                assert name in allowed, f"{name} catches everything"


def test_every_folder_is_mapped_typed_and_documented():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    mapped, listed = (project["tool"]["setuptools"][key] for key in ("package-dir", "packages"))
    for package in PACKAGES:
        name = "lfombench" if package == "api" else f"lfombench.{package}"
        assert name in listed
        assert mapped[name] == package.replace(".", "/")
        assert (ROOT / package.replace(".", "/") / "py.typed").is_file()
        assert ast.get_docstring(ast.parse(MODULES[f"{package}.__init__"].read_text())), package


def test_the_map_in_the_docs_is_what_is_imported():
    """The arrows of docs/architecture.md are those of the source, but for those to `harness`, which all may use."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    drawn = {
        (start, end) for start, ends in re.findall(r"^    (\w+) --> (.+)$", text, re.M) for end in ends.split(" & ")
    }
    assert drawn == {(start, end) for start, end in arrows() if "harness" not in (start, end)}


def test_each_module_of_a_room_is_named_in_the_docs():
    text = (ROOT / "docs" / "architecture.md").read_text()
    for name in MODULES:
        if name.startswith("harness.") and room(name) and not name.endswith("__init__"):
            assert f"`{name.rpartition('.')[2]}" in text, f"docs/architecture.md lacks {name}"


def test_the_installed_package_has_its_sweeps_and_command():
    from lfombench.harness.spec.loader import shipped

    assert {"fig1", "paper", "redraws"} <= set(shipped())
    entries = importlib.metadata.distribution("lfombench").entry_points
    [script] = [entry for entry in entries if entry.group == "console_scripts"]
    assert script.load().__name__ == "main"


def test_no_test_imports_from_a_test():
    for path in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert not (node.module or "").rpartition(".")[2].startswith(("test_", "conftest")), path


@pytest.mark.xdist_group("ray")
def test_the_runner_knows_groups(request):
    """Two Rays at once starve each other; pytest 9.2 beside pytest-xdist 3.8 forgot groups without a word."""
    if request.config.getoption("loadgroup", False):
        assert request.node.nodeid.endswith("@ray")


def test_windows_is_refused_at_once():
    code = "import sys; sys.platform = 'win32'; import lfombench"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "ImportError: lfombench runs on Linux and macOS; on Windows, in WSL" in done.stderr


def test_annotations_are_checked_as_these_tests_run():
    """Types, of functions and methods, and shapes."""
    for wrong in (
        lambda: file_of("one"),
        lambda: place("here").size(1),
        lambda: clipped(torch.zeros(1, 2, 3), torch.zeros(2)),
    ):
        with pytest.raises(Exception, match=r"violates|Type-check error"):
            wrong()
