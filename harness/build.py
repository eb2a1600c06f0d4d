"""Tasks, solvers and protocols from plain values: strict types, no unknown keys, errors that say what is allowed."""

from __future__ import annotations

import contextlib
import functools
import json
import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from pydantic import TypeAdapter, ValidationError

from .errors import SpecError, nearest

T = TypeVar("T")


class FieldError(SpecError):
    """A field that does not fit; `path` leads to it from the part's top."""

    def __init__(self, message: str, path: tuple[str | int, ...] = ()) -> None:
        super().__init__(message)
        self.path = path


_BUILT: WeakValueDictionary[int, Any] = WeakValueDictionary()


def built(part: Any) -> bool:
    """Whether it was made here, so that it needs no second look."""
    return _BUILT.get(id(part)) is part


def build(cls: type[T], values: Mapping[str, Any]) -> T:
    """An instance of a frozen dataclass from plain values: strict types, no unknown keys."""
    known = {f.name for f in fields(cls)}  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            raise FieldError(f"unknown key {key!r}; {nearest(str(key), known)}", (key,))
    for key, value in values.items():
        for number in value if isinstance(value, list | tuple) else [value]:
            if isinstance(number, float) and not math.isfinite(number):
                raise FieldError(f"{key}: got {number}, must be finite", (key,))
    try:
        part: T = _adapter(cls).validate_json(json.dumps(values), strict=True)  # type: ignore[arg-type]  # classes hash
        with contextlib.suppress(TypeError):  # a class with slots
            _BUILT[id(part)] = part
        return part
    except ValidationError as errors:
        [error, *others] = errors.errors()
        alike = [other for other in others if other["loc"][:1] == error["loc"][:1]]
        if alike and len(error["loc"]) > 1 and isinstance(error["loc"][1], str):  # one of several types
            raise FieldError(_explain_choice([error, *alike]), (error["loc"][0],)) from None
        raise FieldError(_explain(error), tuple(error["loc"])) from None


@functools.cache
def _adapter(cls: Any) -> TypeAdapter[Any]:
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
