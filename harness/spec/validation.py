"""Tasks, solvers and protocols from plain values: strict types, no unknown keys, errors that say what is allowed."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Collection, Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from ..errors import SpecError, nearest
from .labels import known, plain
from .protocol import MOST_APART, PROTOCOLS, Expert, Protocol

T = TypeVar("T")


class FieldError(SpecError):
    """A field that does not fit; `path` leads to it from the part's top."""

    def __init__(self, message: str, path: tuple[str | int, ...] = ()) -> None:
        super().__init__(message)
        self.path = path


def build(cls: type[T], values: Mapping[str, Any]) -> T:
    """An instance of a frozen dataclass from plain values: strict types, no unknown keys.

    A field whose metadata names a `part` holds a solver, or several tasks, or experts.
    """
    kinds = {f.name: f.metadata.get("part") for f in fields(cls)}  # type: ignore[arg-type]
    _keys(values, kinds)
    nested = {key: _nested(kind, key, values) for key, kind in kinds.items() if kind and key in values}
    values = {**values, **dict.fromkeys(nested, ())}
    for key, value in values.items():
        for number in value if isinstance(value, list | tuple) else [value]:
            if isinstance(number, float) and not math.isfinite(number):
                raise FieldError(f"{key}: got {number}, must be finite", (key,))
    try:
        part: T = _adapter(cls).validate_json(json.dumps(values), strict=True)  # type: ignore[arg-type]  # classes hash
        return replace(part, **nested) if nested else part  # type: ignore[type-var]
    except ValidationError as errors:
        [error, *others] = errors.errors()
        alike = [other for other in others if other["loc"][:1] == error["loc"][:1]]
        if alike and len(error["loc"]) > 1 and isinstance(error["loc"][1], str):  # one of several types
            raise FieldError(_explain_choice([error, *alike]), (error["loc"][0],)) from None
        raise FieldError(_explain(error), tuple(error["loc"])) from None


def _keys(values: Mapping[str, Any], known: Collection[str]) -> None:
    for key in values:
        if key not in known:
            raise FieldError(f"unknown key {key!r}; {nearest(str(key), known)}", (key,))


def _nested(kind: str, key: str, whole: Mapping[str, Any]) -> Any:
    """A part, or parts, within a part of so many steps or layers."""
    entries, found = whole[key], []
    usual = {"depth": whole["depth"]} if "depth" in whole else {}
    if kind == "solver":
        try:
            return named(kind, entries, **usual)
        except FieldError as error:
            raise FieldError(f"{key}: {error}", (key, *error.path)) from None
        except SpecError as error:
            raise FieldError(f"{key}: {error}", (key,)) from None
    if not isinstance(entries, list | tuple):
        raise FieldError(f"{key}: got {json.dumps(entries)}, must be a list of {kind}s", (key,))
    for i, entry in enumerate(entries):
        try:
            found.append(expert(entry, usual) if kind == "expert" else named(kind, entry))
        except FieldError as error:
            raise FieldError(f"{key}: {error}", (key, i, *error.path)) from None
        except (SpecError, ValueError) as error:
            raise FieldError(f"{key}: {error}", (key, i)) from None
    return tuple(found)


def named(kind: str, entry: Any, **usual: Any) -> Any:
    """A task or solver from `name: {field: value}`, or a name alone. usual: fields that it has where none are given."""
    entry = {entry: {}} if isinstance(entry, str) else entry
    if not isinstance(entry, Mapping) or len(entry) != 1:
        raise FieldError(f"got {json.dumps(entry)}, must be one {kind}: `name: {{field: value}}`")
    [(name, values)] = entry.items()
    cls, base = known(kind, name)
    if not isinstance(values or {}, Mapping):
        raise FieldError(f"got {json.dumps(values)}, must be a mapping of fields", (name,))
    try:
        part = build(cls, {**usual, **base, **(values or {})})
    except FieldError as error:
        raise FieldError(f"{name}, {error}", (name, *error.path)) from None
    if kind == "task":
        part.check()
    return part


def expert(entry: Any, usual: Mapping[str, Any]) -> Expert:
    """An expert, from a mapping of its solver, task and protocol. usual: fields of a solver where none are given."""
    if not isinstance(entry, Mapping):
        raise FieldError(f"got {json.dumps(entry)}, must be an expert: {{solver: ..., task: ..., protocol: ...}}")
    _keys(entry, [f.name for f in fields(Expert)])
    for name in ("solver", "task", "protocol"):
        if name not in entry:
            raise FieldError(f"{name} is missing")
    given = {"use": entry["protocol"]} if isinstance(entry["protocol"], str) else entry["protocol"]
    if not isinstance(given, Mapping) or given.get("use") not in PROTOCOLS:
        raise FieldError(f"protocol: got {json.dumps(given)}; {nearest(str(given), PROTOCOLS)}", ("protocol",))
    protocol = build(Protocol, {**plain(PROTOCOLS[given["use"]]), **given})
    protocol.check()
    solver = named("solver", entry["solver"], **usual)
    task = None if entry["task"] is None else named("task", entry["task"])
    apart = entry.get("apart", 0)
    if type(apart) is not int or not 0 <= apart <= MOST_APART:
        raise FieldError(f"apart: got {json.dumps(apart)}, must be a whole number from 0 to {MOST_APART:,}", ("apart",))
    return Expert(solver=solver, task=task, protocol=protocol, apart=apart)


@functools.cache
def _adapter(cls: Any) -> Any:
    return TypeAdapter(cls)


def _explain_choice(errors: list[Any]) -> str:
    """A value that fits none of the types a field may have."""
    given, [field, *_] = errors[0]["input"], errors[0]["loc"]
    wanted, words = [], []
    for error in errors:
        if error["type"] == "literal_error":
            words += error["ctx"]["expected"].replace(" or ", ", ").replace("'", "").split(", ")
        elif len(error["loc"]) == 2:
            wanted.append(error["msg"].removeprefix("Input should be ").replace("a valid array", "a list"))
    must = " or ".join(dict.fromkeys(wanted))
    return f"{field}: got {json.dumps(given)}, must be {must}; or {nearest(str(given), words)}"


def _explain(error: Any) -> str:
    field = ".".join(map(str, error["loc"]))
    if error["type"] in ("missing", "missing_keyword_only_argument"):
        return f"{field} is missing"
    given, wanted = json.dumps(error["input"]), error["msg"].removeprefix("Input ").replace("should be", "must be")
    wanted = wanted.replace("a valid array", "a list, such as [0.1]")
    if error["type"] == "literal_error":
        allowed = error["ctx"]["expected"].replace(" or ", ", ").replace("'", "").split(", ")
        return f"{field}: got {given}; {nearest(str(error['input']), allowed)}"
    grid = "; for a grid write {each: [...]}" if isinstance(error["input"], list) else ""
    return f"{field}: got {given}, {wanted}{grid}"
