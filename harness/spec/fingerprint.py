"""A fingerprint of the code behind a job's numbers: of its solver, its task, the engine, and all that these import from
lfombench or from beside the user's own module. Comments, docstrings and layout do not count; it is taken from
sources, so nothing is imported for it.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path

from lfombench.tasks import Task

from .job import Case
from .labels import digest, within

PACKAGE = "lfombench"
ENGINE = ("harness.training.train", "harness.training.summary", "harness.training.diagnostics")
ASIDE = {
    f"{PACKAGE}.harness.{name}"
    for name in ("spec.job", "spec.labels", "spec.validation", "store.schema", "errors", "spans")
}  # no numbers
PRELUDE = "compiler/prelude.h"  # what compiled steps stand on


@functools.cache
def modules(*roots: str) -> dict[str, str]:
    """A hash of each module that these stand on, themselves included, by file."""
    found: dict[str, str] = {}
    seen: set[str] = set()
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        path = source(name)
        if name in seen or name in ASIDE or path is None:
            continue
        seen.add(name)
        shown = name.removeprefix(f"{PACKAGE}.").replace(".", "/")
        found[f"{shown}.py"] = _digest(path)
        beside = None if name.partition(".")[0] == PACKAGE else _folder(name, path)
        waiting += [one for one in _imported(name, path) if _ours(one, beside)]
    found[PRELUDE] = _hash((Path(__file__).parents[1] / PRELUDE).read_bytes())
    return dict(sorted(found.items()))


@functools.lru_cache(1 << 12)
def code(case: Case, test: Task | None = None) -> str:
    """The fingerprint of a job's solver, task and engine; and of a further task that it is tested on."""
    return _code(*_roots(case, test))


def code_modules(case: Case, test: Task | None = None) -> dict[str, str]:
    """What it is made of."""
    return modules(*_roots(case, test))


def _roots(case: Case, test: Task | None) -> list[str]:
    parts = [one for part in (case.solver, case.task, *([test] if test else [])) for one in within(part)]
    return [*dict.fromkeys(type(part).__module__ for part in parts), *(f"{PACKAGE}.{name}" for name in ENGINE)]


@functools.cache
def _code(*roots: str) -> str:
    return digest(modules(*roots))


def changed(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Files that differ between two fingerprints."""
    return sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))


@functools.cache
def source(name: str) -> Path | None:
    """A module's file; None where it has none, or is no module."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return None
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


@functools.cache
def _tree(path: Path) -> ast.Module:
    """A module without its docstrings."""
    tree = ast.parse(path.read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(getattr(first.value, "value", None), str):
                node.body = node.body[1:]
    return tree


@functools.cache
def _digest(path: Path) -> str:
    return _hash(ast.dump(_tree(path)).encode())


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def _folder(name: str, path: Path) -> Path:
    """What a user's module and those beside it lie in."""
    up = name.count(".") + (path.name == "__init__.py")
    return path.resolve().parents[up]


def _ours(name: str, beside: Path | None) -> bool:
    if name.partition(".")[0] == PACKAGE:
        return True
    path = source(name) if beside else None
    return path is not None and beside in path.resolve().parents and not _installed(path)


@functools.cache
def _imported(name: str, path: Path) -> list[str]:
    """Modules that a module imports, wherever it does; of a package those where the names come from."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found: list[str] = []
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            found += [_home(base, alias.name) for alias in node.names] if _near(base) else [base]
    return found


@functools.cache
def _near(module: str) -> bool:
    """Whether a module may be the project's or the user's, which its outermost package says."""
    root = module.partition(".")[0]
    path = source(root)
    return root == PACKAGE or not (root in sys.stdlib_module_names or (path and _installed(path)))


def _installed(path: Path) -> bool:
    return "site-packages" in path.parts


def _home(module: str, name: str) -> str:
    """The module where a name that is imported from another is defined."""
    if source(f"{module}.{name}"):
        return f"{module}.{name}"
    path = source(module)
    if path is None or path.name != "__init__.py":
        return module
    for node in _tree(path).body:
        if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _home(f"{module}.{node.module}", alias.name)
    return module
