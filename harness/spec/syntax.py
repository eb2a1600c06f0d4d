"""A module's source as definitions: what each top-level statement means, binds and refers to.

Comments, docstrings, annotations and layout do not count. Standard library alone, so that any Python can run this file
by itself: its digests are the same on all of them, which is why `ast.dump`, whose text changes, is not used.
"""

from __future__ import annotations

import ast
import hashlib
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

TOP_LEVEL = "(top level)"  # the symbol of statements that bind no name

# Where a node was written, how it is annotated, and what only one version of Python has.
IGNORED = {"annotation", "returns", "type_comment", "type_params", "kind", "ctx", "simple"}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
SCOPES = (*FUNCTIONS, ast.ClassDef, ast.Lambda)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)

_one_at_a_time = threading.Lock()  # Python 3.11 counts the depth of all threads' trees as one

Chain = tuple[str, ...]  # a name and attributes of it: `np.linalg.inv`


@dataclass(frozen=True)
class Import:
    """What an imported name stands for: a module, or an attribute of one; `module` is relative to nothing."""

    module: str
    attribute: str | None = None


@dataclass(frozen=True)
class Definition:
    """A top-level statement: a digest of what it means, and the module's names and the imports that it refers to."""

    symbol: str
    digest: str
    names: frozenset[Chain]
    imports: frozenset[tuple[Import, Chain]]  # made inside it, each with the attributes that are used of it


@dataclass
class Module:
    """The definitions of a module. A name that is bound several times has several."""

    bindings: dict[str, list[Definition | Import]] = field(default_factory=dict)
    stars: list[str] = field(default_factory=list)  # modules of which everything is imported
    effects: list[Definition] = field(default_factory=list)  # statements that bind no name, in their order

    @property
    def definitions(self) -> list[Definition]:
        """Every definition once, effects too."""
        bound = [one for several in self.bindings.values() for one in several if isinstance(one, Definition)]
        return list(dict.fromkeys([*bound, *self.effects]))


def parse(source: str | bytes, package: str = "") -> Module:
    """The definitions of a module's source. package: what relative imports in it are relative to."""
    module = Module()
    with _one_at_a_time:
        tree = ast.parse(source)
    for statement in _without_docstring(tree.body):
        if isinstance(statement, ast.Import | ast.ImportFrom):
            _bind_imports(module, statement, package)
        elif not _is_never_run(statement):
            _bind(module, statement, package)
    return module


def digest(node: ast.AST) -> str:
    """A digest of what a piece of syntax means, equal on all versions of Python."""
    return hashlib.blake2b(_text(node).encode(), digest_size=8).hexdigest()


def _bind(module: Module, statement: ast.stmt, package: str) -> None:
    """Enter a statement under every name that it binds, or changes: `RULES[x] = y` belongs to RULES."""
    names = sorted(_bound([statement]))
    changed = _changed(statement)
    if not names and any(isinstance(one, Definition) for one in module.bindings.get(changed, ())):
        names = [changed]
    references = _References(package)
    references.visit(statement)
    made = Definition(
        ", ".join(names) or TOP_LEVEL, digest(statement), frozenset(references.names), frozenset(references.imports)
    )
    for name in names:
        module.bindings.setdefault(name, []).append(made)
    if not names:
        module.effects.append(made)
    if not isinstance(statement, SCOPES):
        for node in ast.walk(statement):  # `try: import ...`
            if isinstance(node, ast.Import | ast.ImportFrom):
                _bind_imports(module, node, package)


def _bind_imports(module: Module, statement: ast.Import | ast.ImportFrom, package: str) -> None:
    for name, target in _imports(statement, package):
        if name == "*":
            module.stars.append(target.module)
        else:
            module.bindings.setdefault(name, []).append(target)


def _imports(statement: ast.Import | ast.ImportFrom, package: str) -> Iterator[tuple[str, Import]]:
    """The names that an import binds, each with what it stands for."""
    if isinstance(statement, ast.Import):
        for alias in statement.names:
            root = alias.name.partition(".")[0]
            yield alias.asname or root, Import(alias.name if alias.asname else root)
        return
    base = statement.module or ""
    if statement.level:
        parents = package.split(".")[: len(package.split(".")) - statement.level + 1]
        base = ".".join([*parents, *([base] if base else [])])
    for alias in statement.names:
        if base != "__future__":
            yield alias.asname or alias.name, Import(base, alias.name)


def _is_never_run(statement: ast.stmt) -> bool:
    """Whether a statement has no effect on import: for type checkers, for scripts, or a mere annotation."""
    if isinstance(statement, ast.If):
        test = ast.unparse(statement.test)
        return test.endswith("TYPE_CHECKING") or test == "__name__ == '__main__'"
    if isinstance(statement, ast.AnnAssign):
        return statement.value is None
    return type(statement).__name__ == "TypeAlias" or isinstance(statement, ast.Pass)


def _changed(statement: ast.stmt) -> str:
    """The name that a statement changes without binding it: `X.y = z`, `X[y] = z`, `X.append(z)`."""
    targets: list[Any] = list(getattr(statement, "targets", [])) or [getattr(statement, "target", None)]
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        targets = [statement.value.func] if isinstance(statement.value.func, ast.Attribute) else []
    node = targets[0] if len(targets) == 1 else None
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


# ---- meaning ---------------------------------------------------------------------------------------------------------


def _text(value: Any, in_class: bool = False) -> str:
    """A piece of syntax as text: without what is ignored, what is absent or empty, and docstrings."""
    if isinstance(value, ast.AnnAssign):
        return _annotated(value, in_class)
    if isinstance(value, ast.JoinedStr):
        return f"JoinedStr({', '.join(_text(piece) for piece in _merged(value.values))})"
    if isinstance(value, ast.AST):
        names = [name for name in value._fields if name not in IGNORED]
        fields: list[tuple[str, Any]] = [(name, getattr(value, name, None)) for name in names]
        if isinstance(value, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            fields = [(name, _without_docstring(x) if name == "body" else x) for name, x in fields]
        is_class = isinstance(value, ast.ClassDef)
        kept = [f"{name}={_text(x, is_class)}" for name, x in fields if x is not None and x != []]
        if isinstance(value, ast.Constant) and value.value is None:
            kept = ["value=None"]
        return f"{type(value).__name__}({', '.join(kept)})"
    if isinstance(value, list):
        return f"[{', '.join(text for one in value if (text := _text(one, in_class)))}]"
    return ascii(value)  # repr prints what a version's Unicode tables know


def _annotated(statement: ast.AnnAssign, in_class: bool) -> str:
    """An annotated assignment as a plain one. In a class an annotation makes a field, unless it says otherwise."""
    target, value = _text(statement.target), _text(statement.value) if statement.value else ""
    if in_class:
        names = {getattr(node, "id", getattr(node, "attr", "")) for node in ast.walk(statement.annotation)}
        words = {"ClassVar", "InitVar"} & names
        return f"Field({', '.join([target, value, *sorted(words)])})"
    return f"Assign(targets=[{target}], value={value})" if value else ""


def _merged(pieces: Iterable[ast.expr]) -> list[ast.expr]:
    """The pieces of an f-string with neighbouring texts as one and empty ones left out, as versions split them."""
    merged: list[ast.expr] = []
    for piece in pieces:
        if isinstance(piece, ast.Constant) and merged and isinstance(merged[-1], ast.Constant):
            merged[-1] = ast.Constant(f"{merged[-1].value!s}{piece.value!s}")
        elif not (isinstance(piece, ast.Constant) and piece.value == ""):
            merged.append(piece)
    return merged


def _without_docstring(body: list[Any]) -> list[Any]:
    first = body[0] if body else None
    is_text = isinstance(first, ast.Expr) and isinstance(getattr(first.value, "value", None), str)
    return body[1:] if is_text else body


# ---- names -----------------------------------------------------------------------------------------------------------


def _bound(nodes: Iterable[ast.AST]) -> set[str]:
    """The names that statements bind in their own scope; imports apart."""
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            names.add(node.name)
            continue  # what it binds inside is its own
        if isinstance(node, ast.Lambda):
            continue
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            names.add(node.name)
        elif isinstance(node, ast.MatchMapping) and node.rest:
            names.add(node.rest)
        children = list(ast.iter_child_nodes(node))
        if isinstance(node, COMPREHENSIONS):  # its targets are its own, `:=` in it is not
            inner = [one for one in ast.walk(node) if isinstance(one, ast.NamedExpr)]
            children = [one.target for one in inner]
        names |= _bound(children)
    return names


class _References(ast.NodeVisitor):
    """Collects the names of the module that a statement refers to, and what it imports itself."""

    def __init__(self, package: str) -> None:
        self.package = package
        self.names: set[Chain] = set()
        self.imports: set[tuple[Import, Chain]] = set()
        self.scopes: list[dict[str, Import | None]] = []  # of the functions around: local names, and imports

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load) or self.scopes:  # in a function a name that is stored may be global
            self._refer((node.id,))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        chain, base = [node.attr], node.value
        while isinstance(base, ast.Attribute):
            chain, base = [base.attr, *chain], base.value
        if isinstance(base, ast.Name):
            self._refer((base.id, *chain))
        else:
            self.visit(base)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if self.scopes:
            self.imports |= {(target, ()) for _, target in _imports(node, self.package)}

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.visit(node.target)
        if node.value:
            self.visit(node.value)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for part in (*node.decorator_list, *node.bases, *node.keywords, *node.body):
            self.visit(part)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> None:
        decorators = [] if isinstance(node, ast.Lambda) else node.decorator_list
        for part in (*decorators, *node.args.defaults, *filter(None, node.args.kw_defaults)):
            self.visit(part)
        body = node.body if isinstance(node.body, list) else [node.body]
        self._enter(body, [argument.arg for argument in ast.walk(node.args) if isinstance(argument, ast.arg)])

    visit_AsyncFunctionDef = visit_Lambda = visit_FunctionDef

    def _comprehension(self, node: Any) -> None:
        targets = _bound([generator.target for generator in node.generators])
        self.scopes.append(dict.fromkeys(targets))
        self.generic_visit(node)
        self.scopes.pop()

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension

    def _enter(self, body: list[Any], arguments: list[str]) -> None:
        local: dict[str, Import | None] = dict.fromkeys([*arguments, *_bound(body)])
        for node in _own_nodes(body):
            if isinstance(node, ast.Global | ast.Nonlocal):
                for name in node.names:
                    local.pop(name, None)
            elif isinstance(node, ast.Import | ast.ImportFrom):
                local |= {name: target for name, target in _imports(node, self.package) if name != "*"}
        self.scopes.append(local)
        for node in body:
            self.visit(node)
        self.scopes.pop()

    def _refer(self, chain: Chain) -> None:
        for scope in reversed(self.scopes):
            if chain[0] in scope:
                target = scope[chain[0]]
                if target is not None:
                    self.imports.add((target, chain[1:]))
                return
        self.names.add(chain)


def _own_nodes(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """All nodes of a function's body but those of scopes inside it."""
    for node in body:
        yield node
        if not isinstance(node, SCOPES):
            yield from _own_nodes(ast.iter_child_nodes(node))
