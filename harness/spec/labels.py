"""Names, labels and plain values of tasks, solvers and protocols."""

from __future__ import annotations

import functools
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
from . import trust
from .protocol import PROTOCOLS, Expert, Protocol

FAMILIES = ("classical", "learned", "bound", "control")
DIGEST = 10  # bytes


def find(kind: str, name: str) -> type[Any]:
    """The class of a task or solver, from its name in the table or from `package.module:Class`.

    SpecError where there is no such class, or where it is not fit to be a task or solver.
    """
    table: Mapping[str, type[Any]] = TASKS if kind == "task" else SOLVERS
    if name in table:
        return table[name]
    if ":" not in name:
        raise SpecError(f"unknown {kind} {name!r}; {nearest(name, table)}; your own: package.module:Class")
    trust.check(kind, name)
    module, _, attribute = name.partition(":")
    try:
        cls = getattr(importlib.import_module(module), attribute)
    except (Exception, SystemExit) as error:
        raise SpecError(f"{kind} {name!r} cannot be imported: {type(error).__name__}: {error}") from error
    base: Any = Task if kind == "task" else Solver
    if not (isinstance(cls, type) and issubclass(cls, base)):
        bases = (Task,) if kind == "task" else (Method, TokenModel)
        allowed = " or ".join(f"lfombench.{kind}s.{b.__name__}" for b in bases)
        raise SpecError(f"{name!r} is not a {kind}: it must be a subclass of {allowed}")
    if "__dataclass_params__" not in vars(cls):
        raise SpecError(f"{kind} {name!r} needs @dataclass(frozen=True, kw_only=True) above its class")
    if inspect.isabstract(cls):
        raise SpecError(f"{kind} {name!r} lacks {', '.join(sorted(vars(cls)['__abstractmethods__']))}")
    if base is Solver and not hasattr(cls, "family"):
        raise SpecError(f"solver {name!r} lacks family, one of {', '.join(FAMILIES)}")
    return cls


def known(kind: str, name: str) -> tuple[type[Any], dict[str, Any]]:
    """The class of a task or solver by name, and the fields that the name sets: those of a task of the catalogue."""
    if kind == "task" and name in CATALOG:
        return type(CATALOG[name]), plain(CATALOG[name])
    return find(kind, name), {}


def name_of(part: Any) -> str:
    """The name of a task, solver or protocol in a spec: the inverse of `find`."""
    for table in (TASKS, SOLVERS):
        for name, cls in table.items():
            if type(part) is cls:
                return name
    if isinstance(part, Protocol):
        return "protocol"
    return f"{type(part).__module__}:{symbol_of(type(part)) or type(part).__qualname__}"


def symbol_of(cls: type[Any]) -> str:
    """The name of a class in its module; empty where no name there refers to it, as for a class inside a function."""
    if "<locals>" not in cls.__qualname__:
        return cls.__qualname__
    names = vars(sys.modules.get(cls.__module__, object)).items()
    return next((name for name, value in names if value is cls), "")


def label(part: Any) -> str:
    """The name and the non-default fields, without the depth: `memformer(memory=cgd, preconditioner=full)`."""
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
        return _show_parts(value)
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(_show, value)) + "]"
    if isinstance(value, Solver):
        return label(value)
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)


def _show_parts(parts: tuple[Any, ...]) -> str:
    """A list of tasks or experts in a label: the fields in which they differ, and a short digest of all fields."""
    rows = [_flat(part) for part in parts]
    keys = [
        key
        for key in dict.fromkeys(key for row in rows for key in row)
        if len({_show(row.get(key)) for row in rows}) > 1
    ]
    if keys:
        shown = [" ".join(f"{key.rpartition('.')[2]}={_show(row[key])}" for key in keys if key in row) for row in rows]
    else:
        shown = [_title(part) for part in parts]
    return f"[{', '.join(shown)}] #{digest([{key: _plain(x) for key, x in row.items()} for row in rows])[:4]}"


def _title(part: Any) -> str:
    """The task of a task or expert: the task of the catalogue that is nearest, with the fields that differ from it."""
    task = part.task if isinstance(part, Expert) else part
    if task is None:
        return "its own task"
    candidates = [
        (name, {f.name: x for f in fields(task) if (x := getattr(task, f.name)) != getattr(base, f.name)})
        for name, base in CATALOG.items()
        if type(base) is type(task)
    ]
    if not candidates:
        return label(task)
    name, differences = min(candidates, key=lambda candidate: len(candidate[1]))
    return f"{name}({', '.join(f'{k}={_show(v)}' for k, v in differences.items())})" if differences else name


def _flat(part: Any) -> dict[str, Any]:
    """All fields of a part except a solver's depth; those of nested parts under dotted keys."""
    values: dict[str, Any] = {} if isinstance(part, Expert) else {"kind": name_of(part)}
    for f in fields(part):
        value = getattr(part, f.name)
        if isinstance(value, Task | Solver | Protocol):
            values |= {f"{f.name}.{key}": x for key, x in _flat(value).items()}
        elif value is not None and f.name != "depth":
            values[f.name] = value
    return values


def digest(spec: Any) -> str:
    """A short hash of a value that JSON can hold, in hexadecimal."""
    return hashlib.blake2b(json.dumps(spec, sort_keys=True).encode(), digest_size=DIGEST).hexdigest()


def spec_of(part: Any) -> dict[str, Any]:
    """A task or solver as JSON."""
    return {name_of(part): plain(part)}


def plain(part: Any) -> dict[str, Any]:
    """The fields of a task, solver or protocol as plain values."""
    return {f.name: _plain(getattr(part, f.name)) for f in fields(part)}


def _plain(value: Any) -> Any:
    if isinstance(value, (str, int, float)):  # most are: asked first, as abstract classes take longer to ask
        return value
    if isinstance(value, tuple | list):
        return tuple(map(_plain, value))
    if isinstance(value, Task | Solver):
        return spec_of(value)
    return plain(value) if is_dataclass(value) else value


def text(part: Any) -> str:
    """A task, solver or protocol as JSON with sorted keys: a part of a job's canonical form."""
    return _text(_Itself(part))


class _Itself:
    """A part of a case that equals itself alone: 0.0 and -0.0 are equal, and are not the same text."""

    __slots__ = ("part",)

    def __init__(self, part: Any) -> None:
        self.part = part

    def __hash__(self) -> int:
        return id(self.part)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Itself) and self.part is other.part


@functools.lru_cache(maxsize=4096)  # a sweep has each part in many cases
def _text(itself: _Itself) -> str:
    part = itself.part
    return json.dumps(spec_of(part) if isinstance(part, Task | Solver) else plain(part), sort_keys=True)


def nested(part: Any) -> Iterator[Any]:
    """Iterate over a task or solver and all tasks and solvers nested in it; of an expert, only those nested in it."""
    if isinstance(part, Task | Solver):
        yield part
    for f in fields(part):
        value = getattr(part, f.name)
        for child in value if isinstance(value, tuple) else (value,):
            if isinstance(child, Task | Solver | Expert):
                yield from nested(child)


def shape_of(part: Any) -> Any:
    """A part's structure: its class and fields, with floats reduced to their presence or number."""
    return [
        name_of(part),
        {f.name: _shape(getattr(part, f.name)) for f in fields(part) if f.name not in ("use", "data_seed")},
    ]


def _shape(value: Any) -> Any:
    if isinstance(value, float):
        return "float"
    if isinstance(value, tuple) and value and all(isinstance(v, float) for v in value):
        return f"{len(value)} floats"
    if isinstance(value, tuple):
        return [spec_of(item.solver) if isinstance(item, Expert) else _plain(item) for item in value]
    return spec_of(value) if isinstance(value, Solver) else value
