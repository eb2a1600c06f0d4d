"""What tasks, solvers and protocols are called, and their fields as plain values."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from lfombench.solvers import SOLVERS, Method, Solver, TokenModel
from lfombench.tasks import CATALOG, TASKS, Task

from ..errors import SpecError, nearest
from .protocol import PROTOCOLS, Expert, Protocol

FAMILIES = ("classical", "learned", "bound", "control")
DIGEST = 10  # bytes


def find(kind: str, name: str) -> type[Any]:
    """The class of a task or solver: its name in the table, or `package.module:Class`."""
    table: Mapping[str, type[Any]] = TASKS if kind == "task" else SOLVERS
    if name in table:
        return table[name]
    if ":" not in name:
        raise SpecError(f"unknown {kind} {name!r}; {nearest(name, table)}; your own: package.module:Class")
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (Exception, SystemExit) as error:
        raise SpecError(f"{kind} {name!r} cannot be imported: {type(error).__name__}: {error}") from error
    base: Any = Task if kind == "task" else Solver
    if not (isinstance(found, type) and issubclass(found, base)):
        bases = (Task,) if kind == "task" else (Method, TokenModel)
        wanted = " or ".join(f"lfombench.{kind}s.{b.__name__}" for b in bases)
        raise SpecError(f"{name!r} is not a {kind}: it must be a subclass of {wanted}")
    if "__dataclass_params__" not in vars(found):
        raise SpecError(f"{kind} {name!r} needs @dataclass(frozen=True, kw_only=True) above its class")
    if inspect.isabstract(found):
        raise SpecError(f"{kind} {name!r} lacks {', '.join(sorted(vars(found)['__abstractmethods__']))}")
    if base is Solver and not hasattr(found, "family"):
        raise SpecError(f"solver {name!r} lacks family, one of {', '.join(FAMILIES)}")
    return found


def known(kind: str, name: str) -> tuple[type[Any], dict[str, Any]]:
    """The class of a task or solver, and fields that the name stands for: those of a task of the catalogue."""
    if kind == "task" and name in CATALOG:
        return type(CATALOG[name]), plain(CATALOG[name])
    return find(kind, name), {}


def name_of(part: Any) -> str:
    """The inverse of `find`."""
    for table in (TASKS, SOLVERS):
        for name, known in table.items():
            if type(part) is known:
                return name
    if isinstance(part, Protocol):
        return "protocol"
    return f"{type(part).__module__}:{symbol_of(type(part)) or type(part).__qualname__}"


def symbol_of(cls: type[Any]) -> str:
    """The name that a class goes by in its module; empty where it is bound to none, as inside a function."""
    if "<locals>" not in cls.__qualname__:
        return cls.__qualname__
    names = vars(sys.modules.get(cls.__module__, object)).items()
    return next((name for name, value in names if value is cls), "")


def label(part: Any) -> str:
    """Name and non-default fields, depth apart: `memformer(memory=cgd, preconditioner=full)`."""
    if isinstance(part, Protocol):
        base = plain(PROTOCOLS[part.use])
        name, shown = part.use, {k: v for k, v in plain(part).items() if v != base[k]}
    else:
        name = name_of(part)
        shown = {f.name: getattr(part, f.name) for f in fields(part) if f.name != "depth"}
        shown = {
            f.name: shown[f.name]
            for f in fields(part)
            if f.name in shown and (f.default is MISSING or shown[f.name] != f.default)
        }
    return f"{name}({', '.join(f'{k}={_show(v)}' for k, v in shown.items())})" if shown else name


def _show(value: Any) -> str:
    if isinstance(value, tuple) and value and isinstance(value[0], Task | Expert):
        return _told_apart(value)
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(_show, value)) + "]"
    if isinstance(value, Solver):
        return label(value)
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)


def _told_apart(parts: tuple[Any, ...]) -> str:
    """Parts within a part: what they differ in, and a mark of all that they are."""
    flat = [_flat(part) for part in parts]
    keys = [
        key
        for key in dict.fromkeys(key for one in flat for key in one)
        if len({_show(one.get(key)) for one in flat}) > 1
    ]
    if keys:
        shown = [" ".join(f"{key.rpartition('.')[2]}={_show(one[key])}" for key in keys if key in one) for one in flat]
    else:
        shown = [_title(part) for part in parts]
    return f"[{', '.join(shown)}] #{digest([{key: _plain(x) for key, x in one.items()} for one in flat])[:4]}"


def _title(part: Any) -> str:
    """A part's task, by the name of the catalogue's that is nearest."""
    task = part.task if isinstance(part, Expert) else part
    if task is None:
        return "its own task"
    near = [
        (name, {f.name: x for f in fields(task) if (x := getattr(task, f.name)) != getattr(base, f.name)})
        for name, base in CATALOG.items()
        if type(base) is type(task)
    ]
    if not near:
        return label(task)
    name, differs = min(near, key=lambda one: len(one[1]))
    return f"{name}({', '.join(f'{k}={_show(v)}' for k, v in differs.items())})" if differs else name


def _flat(part: Any) -> dict[str, Any]:
    """All fields but a solver's depth, those of a part's parts by a path."""
    found: dict[str, Any] = {} if isinstance(part, Expert) else {"kind": name_of(part)}
    for f in fields(part):
        value = getattr(part, f.name)
        if isinstance(value, Task | Solver | Protocol):
            found |= {f"{f.name}.{key}": x for key, x in _flat(value).items()}
        elif value is not None and f.name != "depth":
            found[f.name] = value
    return found


def digest(spec: Any) -> str:
    """A short hash of anything that is JSON."""
    return hashlib.blake2b(json.dumps(spec, sort_keys=True).encode(), digest_size=DIGEST).hexdigest()


def spec_of(part: Any) -> dict[str, Any]:
    """A task or solver as JSON."""
    return {name_of(part): plain(part)}


def plain(part: Any) -> dict[str, Any]:
    """The fields of a task, solver or protocol as plain values."""
    return {f.name: _plain(getattr(part, f.name)) for f in fields(part)}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return tuple(map(_plain, value))
    if isinstance(value, Task | Solver):
        return spec_of(value)
    return plain(value) if is_dataclass(value) else value


def within(part: Any) -> Iterator[Any]:
    """A part and all tasks and solvers that are parts of it."""
    if isinstance(part, Task | Solver):
        yield part
    for f in fields(part):
        value = getattr(part, f.name)
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, Task | Solver | Expert):
                yield from within(one)


def shape_of(part: Any) -> Any:
    """A part's structure: its class and fields, with floats reduced to their presence or number."""

    def reduce(value: Any) -> Any:
        if isinstance(value, float):
            return "float"
        if isinstance(value, tuple) and value and all(isinstance(v, float) for v in value):
            return f"{len(value)} floats"
        if isinstance(value, tuple):
            return [spec_of(one.solver) if isinstance(one, Expert) else _plain(one) for one in value]
        if isinstance(value, Solver):
            return spec_of(value)
        return value

    return [
        name_of(part),
        {f.name: reduce(getattr(part, f.name)) for f in fields(part) if f.name not in ("use", "data_seed")},
    ]
