"""What is known of a class whose source cannot be read: its compiled functions and its plain attributes."""

from __future__ import annotations

import types
from typing import Any

from .labels import digest


def bytecode_digest(cls: type[Any]) -> str:
    """A digest of what a class and its bases define themselves. Another version of Python gives another one."""
    return digest([_class(base) for base in cls.__mro__ if base.__module__ not in ("builtins", "abc", "typing")])


def _class(cls: type[Any]) -> Any:
    described = {name: _described(value) for name, value in vars(cls).items()}
    return [cls.__qualname__, {name: value for name, value in described.items() if value is not None}]


def _described(value: Any) -> Any:
    """A function's code, or a plain value; None for what a class has of Python's own and of generated code."""
    if isinstance(value, staticmethod | classmethod):
        value = value.__func__
    if isinstance(value, property):
        value = value.fget
    if isinstance(value, types.FunctionType):
        written = value.__code__.co_filename != "<string>"  # else a dataclass has generated it
        cells = [repr(cell.cell_contents) for cell in value.__closure__ or () if _is_plain(cell.cell_contents)]
        return [_code(value.__code__, value.__doc__), repr(value.__defaults__), cells] if written else None
    return repr(value) if _is_plain(value) else None


def _is_plain(value: Any) -> bool:
    return isinstance(value, bool | int | float | str | tuple | frozenset)


def _code(code: types.CodeType, doc: str | None) -> Any:
    """Instructions, names and constants, those of functions inside too; without its docstring."""
    constants = [
        _code(one, None) if isinstance(one, types.CodeType) else repr(one) for one in code.co_consts if one != doc
    ]
    return [code.co_code.hex(), code.co_names, code.co_varnames, constants]
