"""A fingerprint of the code behind a job's numbers: its solver's and task's classes, all that these use, the engine.

What a class uses counts wherever it stands: in its module, or in modules that it imports from lfombench or from beside
the user's own module. Comments, docstrings, annotations, the order of definitions and the names of files do not count
(`syntax.py`). It is taken from sources. Of the engine whole modules count, as all jobs share them.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lfombench.tasks import Task

from .bytecode import bytecode_digest
from .job import Case
from .labels import digest, nested, symbol_of
from .references import PACKAGE, Edge, Node, edges, imported, module_of, nodes, resolve
from .syntax import Import

log = logging.getLogger("lfombench")

HARNESS = f"{PACKAGE}.harness"
ENGINE = tuple(f"{HARNESS}.training.{name}" for name in ("train", "summary", "diagnostics"))
ENGINE_ROOMS = (f"{HARNESS}.training.", f"{HARNESS}.compiler.")  # the modules of these that those import count whole
NOT_COUNTED = {
    f"{HARNESS}.{name}" for name in ("spec.job", "spec.labels", "spec.validation", "errors", "spans")
}  # these decide no result
HARNESS_FOLDER = Path(__file__).parents[1]


def code(case: Case, test: Task | None = None) -> str:
    """The fingerprint of a job's solver, task and engine; and of a further task that it is tested on."""
    return _fingerprint(_classes(case, test))[0]


def read_engine() -> None:
    """Read now what all fingerprints of this process take in: it takes most of the time of the first."""
    _reached(_engine())


def code_parts(case: Case, test: Task | None = None) -> dict[str, str]:
    """What that fingerprint is made of: a digest of every definition, by file and symbol."""
    return dict(_fingerprint(_classes(case, test))[1])


def changed(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The parts that differ between two fingerprints, whatever file they stood in."""
    if before and not any(":" in part for part in before):
        return ["the way in which fingerprints are taken has"]  # an older lfombench took them by file
    old, new = _by_symbol(before), _by_symbol(now)
    symbols = [one for one in old.keys() | new.keys() if sorted(old.get(one, [])) != sorted(new.get(one, []))]
    parts = {part.rpartition(":")[2]: part for part in (*before, *now)}
    return sorted(parts[one] for one in symbols)


def _by_symbol(parts: Mapping[str, str]) -> dict[str, list[str]]:
    digests: defaultdict[str, list[str]] = defaultdict(list)
    for part, value in parts.items():
        digests[part.rpartition(":")[2]].append(value)
    return digests


@functools.lru_cache(1 << 12)
def _classes(case: Case, test: Task | None) -> tuple[type[Any], ...]:
    """The classes of a solver, a task and all that are parts of them."""
    parts = [one for part in (case.solver, case.task, *([test] if test else [])) for one in nested(part)]
    return tuple(dict.fromkeys(type(part) for part in parts))


@functools.cache
def _fingerprint(classes: tuple[type[Any], ...]) -> tuple[str, tuple[tuple[str, str], ...]]:
    """A digest of all definitions that classes and the engine reach and of how they refer to each other; and the
    definitions by part.
    """
    roots = [root for cls in classes for root in _roots(cls)]
    reached, references = _reached([*roots, *_engine()])
    headers = {  # what compiled steps stand on
        f"harness/compiler/{path.name}:{path.name}": hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest()
        for path in (HARNESS_FOLDER / "compiler").glob("*.h")
    }
    content = [
        sorted(_key(root) for root in roots),
        sorted(_key(node) for node in reached),
        sorted([*_key(start), name, *_key(end)] for start, name, end in references),
        sorted(headers.values()),
    ]
    parts: defaultdict[str, list[str]] = defaultdict(list)
    for node in reached:
        parts[node.part].append(node.digest)
    by_part = {part: digests[0] if len(digests) == 1 else digest(sorted(digests)) for part, digests in parts.items()}
    return digest(content), tuple(sorted((by_part | headers).items()))


def _key(target: Node | str) -> tuple[str, str]:
    """A definition without the name of its file; or what is imported from elsewhere."""
    return (target.symbol, target.digest) if isinstance(target, Node) else (target, "")


def _reached(start: Iterable[Node]) -> tuple[set[Node], set[Edge]]:
    """All definitions that some refer to, by whatever way, and the references between them."""
    reached: set[Node] = set()
    references: set[Edge] = set()
    waiting = [*start]
    while waiting:
        node = waiting.pop()
        if node in reached:
            continue
        reached.add(node)
        for edge in edges(node):
            end = edge[2]
            if not (isinstance(end, Node) and end.module in NOT_COUNTED):
                references.add(edge)
                waiting += [end] if isinstance(end, Node) else []
    return reached, references


@functools.cache
def _engine() -> tuple[Node, ...]:
    """All definitions of the engine's modules, and what these import: they may use it by its type alone."""
    start: list[Node] = []
    seen: set[str] = set()
    waiting = [*ENGINE]
    while waiting:
        name = waiting.pop()
        module = module_of(name)
        if name in seen or module is None:
            continue
        seen.add(name)
        start += nodes(name)
        for target in [one for several in module.bindings.values() for one in several if isinstance(one, Import)]:
            inner = f"{target.module}.{target.attribute}"
            home = inner if module_of(inner) else target.module
            if home.startswith(ENGINE_ROOMS):
                waiting.append(home)
            elif home == target.module:
                start += [
                    end for end in imported(name, target, ()) if isinstance(end, Node) and end.module not in NOT_COUNTED
                ]
    return tuple(start)


def _roots(cls: Any) -> list[Node]:
    """The definitions that a class goes by in its module. One whose source cannot be read, because a notebook or a
    function made it, is known by its bytecode.
    """
    symbol = symbol_of(cls).partition(".")[0]
    if symbol and cls.__module__ != "__main__":  # which is another module in each process
        definitions = [end for end in resolve(cls.__module__, (symbol,)) if isinstance(end, Node)]
        if definitions:
            return definitions
    return [_unreadable(cls)]


@functools.cache
def _unreadable(cls: Any) -> Node:
    log.warning(
        "the source of %s.%s cannot be read, as where a notebook, a script or a function makes it: its jobs are known "
        "by its bytecode, which is another on another Python than %d.%d, and changes of what it calls go unnoticed; "
        "put it into a module of its own",
        cls.__module__,
        cls.__qualname__,
        *sys.version_info[:2],
    )
    return Node(cls.__module__, cls.__qualname__, bytecode_digest(cls))
