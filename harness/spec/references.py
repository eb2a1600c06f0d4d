"""From a definition to those it refers to: in its module, in modules of lfombench, in modules beside the user's own."""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .syntax import TOP_LEVEL, Chain, Definition, Import, Module, parse

PACKAGE = "lfombench"


@dataclass(frozen=True)
class Node:
    """A definition in its module; or, without a definition, a class that has no source."""

    module: str
    symbol: str
    digest: str
    definition: Definition | None = None

    @property
    def part(self) -> str:
        """Its name for people: `solvers/memformer.py:Memformer`."""
        file = self.module.removeprefix(f"{PACKAGE}.").replace(".", "/")
        is_package = (source(self.module) or "").endswith("__init__.py")
        return f"{file}{'/__init__' if is_package else ''}.py:{self.symbol}"


Edge = tuple[
    Node, str, Node | str
]  # what refers; under which name; to what: a node, or what is imported from elsewhere


@functools.cache
def edges(node: Node) -> tuple[Edge, ...]:
    """What a definition refers to, and what its module does on import beside defining."""
    if node.definition is None:
        return ()
    found: list[Edge] = []
    for chain in node.definition.names:
        found += [(node, ".".join(chain), end) for end in resolve(node.module, chain)]
    for target, chain in node.definition.imports:
        found += [(node, ".".join(chain), end) for end in imported(node.module, target, chain)]
    module = module_of(node.module)
    effects = [one for one in module.effects if one is not node.definition] if module else []
    found += [(node, TOP_LEVEL, _node(node.module, effect)) for effect in effects]
    return tuple(found)


def nodes(module: str) -> list[Node]:
    """All definitions of a module."""
    known = module_of(module)
    return [_node(module, definition) for definition in known.definitions] if known else []


def resolve(module: str, chain: Chain) -> Iterator[Node | str]:
    """What a name of a module, with attributes, leads to: definitions, or what is imported from elsewhere."""
    known = module_of(module)
    if known is None:
        return
    for target in known.bindings.get(chain[0], ()):
        if isinstance(target, Definition):
            yield _node(module, target)
        else:
            yield from imported(module, target, chain[1:])
    if chain[0] not in known.bindings:
        for star in known.stars:
            if _is_ours(star, module):
                yield from resolve(star, chain)


def imported(module: str, target: Import, chain: Chain) -> Iterator[Node | str]:
    """What an import in a module leads to, with the attributes that are used of it."""
    if not _is_ours(target.module, module):
        yield ".".join(filter(None, (target.module, target.attribute, *chain[:1])))
    elif target.attribute is None:
        yield from _attribute(target.module, chain)
    elif source(f"{target.module}.{target.attribute}"):
        yield from _attribute(f"{target.module}.{target.attribute}", chain)
    else:
        yield from resolve(target.module, (target.attribute, *chain))


def _attribute(module: str, chain: Chain) -> Iterator[Node | str]:
    """What an attribute of a module of ours is: of a submodule, or a definition; all of them where none is named."""
    if chain and source(f"{module}.{chain[0]}"):
        yield from _attribute(f"{module}.{chain[0]}", chain[1:])
    elif chain:
        yield from resolve(module, chain)
    else:
        yield from nodes(module)


def _node(module: str, definition: Definition) -> Node:
    return Node(module, definition.symbol, definition.digest, definition)


@functools.cache
def source(name: str) -> str | None:
    """Where a module's source is; None where it has none, or is no module."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return None
    return spec.origin if spec and spec.origin and spec.origin.endswith(".py") else None


@functools.cache
def module_of(name: str) -> Module | None:
    """The definitions of a module; None where its source cannot be read. That of a module in a zip can."""
    path = source(name)
    if path is None:
        return None
    spec = importlib.util.find_spec(name)
    read = getattr(spec and spec.loader, "get_source", None)
    text = read(name) if read else Path(path).read_bytes()
    if text is None:
        return None
    return parse(text, name if path.endswith("__init__.py") else name.rpartition(".")[0])


@functools.cache
def _is_ours(name: str, importer: str) -> bool:
    """Whether a module counts: one of lfombench, or one beside the user's module that imports it."""
    root, user = name.partition(".")[0], importer.partition(".")[0]
    if root == PACKAGE:
        return True
    if user == PACKAGE or root in sys.stdlib_module_names:
        return False
    path, beside = source(root), source(user)
    if path is None or beside is None or "site-packages" in Path(path).parts:
        return False
    return _folder(path) == _folder(beside)


def _folder(path: str) -> Path:
    """The folder that a top-level module or package lies in."""
    return Path(path).resolve().parents[1 if path.endswith("__init__.py") else 0]
