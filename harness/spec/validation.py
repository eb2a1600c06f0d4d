"""Build tasks, solvers and protocols from plain values: strict types, no unknown keys, helpful errors."""

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
    """A field value that is not allowed; `path` holds the keys and indices that lead to it from the outermost part."""

    def __init__(self, message: str, path: tuple[str | int, ...] = ()) -> None:
        super().__init__(message)
        self.path = path


def build(cls: type[T], values: Mapping[str, Any]) -> T:
    """An instance of a frozen dataclass from plain values: strict types, no unknown keys.

    A field whose metadata names a `part` holds a solver, or several tasks, or experts.
    """
    kinds = {f.name: f.metadata.get("part") for f in fields(cls)}  # type: ignore[arg-type]
    _check_keys(values, kinds)
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


def _check_keys(values: Mapping[str, Any], allowed: Collection[str]) -> None:
    for key in values:
        if key not in allowed:
            raise FieldError(f"unknown key {key!r}; {nearest(str(key), allowed)}", (key,))


def _nested(kind: str, key: str, whole: Mapping[str, Any]) -> Any:
    """The solver, tasks or experts in field `key` of `whole`; a nested solver has the depth of `whole` by default."""
    entries, parts = whole[key], []
    defaults = {"depth": whole["depth"]} if "depth" in whole else {}
    if kind == "solver":
        try:
            return named(kind, entries, **defaults)
        except FieldError as error:
            raise FieldError(f"{key}: {error}", (key, *error.path)) from None
        except SpecError as error:
            raise FieldError(f"{key}: {error}", (key,)) from None
    if not isinstance(entries, list | tuple):
        raise FieldError(f"{key}: got {json.dumps(entries)}, must be a list of {kind}s", (key,))
    for i, entry in enumerate(entries):
        try:
            parts.append(expert(entry, defaults) if kind == "expert" else named(kind, entry))
        except FieldError as error:
            raise FieldError(f"{key}: {error}", (key, i, *error.path)) from None
        except (SpecError, ValueError) as error:
            raise FieldError(f"{key}: {error}", (key, i)) from None
    return tuple(parts)


def named(kind: str, entry: Any, **defaults: Any) -> Any:
    """A task or solver from `name: {field: value}` or a name alone. defaults: values of fields that are not given."""
    entry = {entry: {}} if isinstance(entry, str) else entry
    if not isinstance(entry, Mapping) or len(entry) != 1:
        raise FieldError(f"got {json.dumps(entry)}, must be one {kind}: `name: {{field: value}}`")
    [(name, values)] = entry.items()
    cls, base = known(kind, name)
    if not isinstance(values or {}, Mapping):
        raise FieldError(f"got {json.dumps(values)}, must be a mapping of fields", (name,))
    try:
        part = build(cls, {**defaults, **base, **(values or {})})
    except FieldError as error:
        raise FieldError(f"{name}, {error}", (name, *error.path)) from None
    if kind == "task":
        part.check()
    return part


def expert(entry: Any, defaults: Mapping[str, Any]) -> Expert:
    """An expert from a mapping of its solver, task and protocol. defaults: values of solver fields not given."""
    if not isinstance(entry, Mapping):
        raise FieldError(f"got {json.dumps(entry)}, must be an expert: {{solver: ..., task: ..., protocol: ...}}")
    _check_keys(entry, [f.name for f in fields(Expert)])
    for name in ("solver", "task", "protocol"):
        if name not in entry:
            raise FieldError(f"{name} is missing")
    values = {"use": entry["protocol"]} if isinstance(entry["protocol"], str) else entry["protocol"]
    if not isinstance(values, Mapping) or not isinstance(values.get("use"), str) or values["use"] not in PROTOCOLS:
        raise FieldError(f"protocol: got {json.dumps(values)}; {nearest(str(values), PROTOCOLS)}", ("protocol",))
    protocol = build(Protocol, {**plain(PROTOCOLS[values["use"]]), **values})
    protocol.check()
    solver = named("solver", entry["solver"], **defaults)
    task = None if entry["task"] is None else named("task", entry["task"])
    apart = entry.get("apart", 0)
    if type(apart) is not int or not 0 <= apart <= MOST_APART:
        raise FieldError(f"apart: got {json.dumps(apart)}, must be a whole number from 0 to {MOST_APART:,}", ("apart",))
    return Expert(solver=solver, task=task, protocol=protocol, apart=apart)


@functools.cache
def _adapter(cls: Any) -> Any:
    return TypeAdapter(cls)


def _explain_choice(errors: list[Any]) -> str:
    """The error message for a value that fits none of the types a field may have."""
    value, [field, *_] = errors[0]["input"], errors[0]["loc"]
    types, words = [], []
    for error in errors:
        if error["type"] == "literal_error":
            words += error["ctx"]["expected"].replace(" or ", ", ").replace("'", "").split(", ")
        elif len(error["loc"]) == 2:
            types.append(error["msg"].removeprefix("Input should be ").replace("a valid array", "a list"))
    allowed = " or ".join(dict.fromkeys(types))
    return f"{field}: got {json.dumps(value)}, must be {allowed}; or {nearest(str(value), words)}"


def _explain(error: Any) -> str:
    """The error message for a pydantic error: the field, its value, and what is allowed."""
    field = ".".join(map(str, error["loc"]))
    if error["type"] in ("missing", "missing_keyword_only_argument"):
        return f"{field} is missing"
    value, rule = json.dumps(error["input"]), error["msg"].removeprefix("Input ").replace("should be", "must be")
    rule = rule.replace("a valid array", "a list, such as [0.1]")
    if error["type"] == "literal_error":
        allowed = error["ctx"]["expected"].replace(" or ", ", ").replace("'", "").split(", ")
        return f"{field}: got {value}; {nearest(str(error['input']), allowed)}"
    hint = "; for a grid write {each: [...]}" if isinstance(error["input"], list) else ""
    return f"{field}: got {value}, {rule}{hint}"
