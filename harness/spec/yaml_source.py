"""Read YAML together with the line of every value, for errors that name the line."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..errors import SpecError

MOST_VALUES = 300_000  # of a file
LARGEST = 10**1000
Keys = tuple[str | int, ...]  # the path to a value: mapping keys and list indices, from the top of the document


class _Loader(yaml.SafeLoader):
    """A loader of safe YAML that reads plain words as YAML 1.2 does: `yes`, `1:30`, `1_000` and dates are text, and
    1e-3 is a number.
    """

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}


def _number(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int | float:
    text = node.value.lower()
    if LEADING_ZERO.fullmatch(text):  # of 010, YAML 1.1 makes eight and 1.2 ten
        raise ValueError(f"a number does not begin with 0; write {int(text)}, or quotes around a text")
    if text.startswith("0x"):
        return int(text, 16)
    if text.startswith("0o"):
        return int(text, 8)
    if text.endswith((".inf", ".nan")):
        return float(text.replace(".", ""))
    return int(text) if text.lstrip("+-").isdigit() else float(text)


LEADING_ZERO = re.compile(r"[-+]?0[0-9]+")
INTEGER = r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"
FLOAT = r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", INTEGER, "-+0123456789"),
    ("float", FLOAT, "-+.0123456789"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))
_Loader.add_constructor("tag:yaml.org,2002:int", _number)
_Loader.add_constructor("tag:yaml.org,2002:float", _number)


class PlacedError(SpecError):
    """An error that names file, line and path."""


@dataclass(frozen=True)
class Document:
    """A parsed file: its data, and the line on which each value starts."""

    source: str
    data: Any
    lines: dict[Keys, int]

    def error(self, keys: Keys, message: str) -> PlacedError:
        """An error that names file, line and path: of the longest beginning of `keys` that the file has."""
        path = keys
        while path not in self.lines and path:
            path = path[:-1]
        message = message.removeprefix(f"{path[-1]}: ") if path else message
        dotted = "".join(f"[{k}]" if isinstance(k, int) else f".{k}" for k in path).lstrip(".")
        return PlacedError(f"{self.source}, line {self.lines.get(path, 1)}{f', {dotted}' if dotted else ''}: {message}")


def read(path: Path) -> Document:
    """Parse a file; every error is a SpecError that names the file and, where it is known, the line."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: cannot be read: {error}") from error
    return read_text(text, str(path))


def read_text(text: str, source: str) -> Document:
    """Parse YAML; every error is a SpecError that names the source and, where it is known, the line."""
    lines: dict[Keys, int] = {}
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        _values(node, {}, source)
        data = _convert(loader, node, (), lines, source) if node else None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise SpecError(f"{source}{line}: not YAML: {error.problem or error.context}") from None
    except yaml.reader.ReaderError as error:
        at = text.count("\n", 0, error.position) + 1
        raise SpecError(
            f"{source}, line {at}: not YAML: the character {chr(error.character)!r} has no place in it"
        ) from None
    except RecursionError:
        at = max(lines.values(), default=loader.line + 1 if loader else 1)
        raise SpecError(f"{source}, line {at}: nested too deeply") from None
    return Document(source, data, lines)


def _values(node: yaml.Node | None, known: dict[yaml.Node, int], source: str) -> int:
    """How many values a node means with its aliases written out; `known` has the counts so far, 0 of those begun."""
    if not isinstance(node, yaml.CollectionNode):
        return 1
    line = node.start_mark.line + 1
    if node not in known:
        known[node] = 0
        children = [value for _, value in node.value] if isinstance(node, yaml.MappingNode) else node.value
        known[node] = 1 + sum(_values(child, known, source) for child in children)
        if known[node] > MOST_VALUES:
            raise SpecError(f"{source}, line {line}: more than {MOST_VALUES:,} values: are there aliases of aliases?")
    if not known[node]:
        raise SpecError(f"{source}, line {line}: an alias that contains itself")
    return known[node]


def _convert(loader: _Loader, node: yaml.Node, path: Keys, lines: dict[Keys, int], source: str) -> Any:
    """The data of a node. Enters the line of every value in it, by path, in `lines`."""
    lines[path] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            if key == "<<" or not isinstance(key_node, yaml.ScalarNode):
                line = key_node.start_mark.line + 1
                raise SpecError(f"{source}, line {line}: a key must be a word; merge keys (<<) are not supported")
            if not _is_text(key):
                raise SpecError(f"{source}, line {key_node.start_mark.line + 1}: the key {key!r} is no text")
            if key in mapping:
                first = lines[(*path, key)]
                raise SpecError(
                    f"{source}, line {key_node.start_mark.line + 1}: {key!r} stands twice, first on line {first}"
                )
            mapping[key] = _convert(loader, value_node, (*path, key), lines, source)
            lines[(*path, key)] = key_node.start_mark.line + 1
        return mapping
    if isinstance(node, yaml.SequenceNode):
        return [_convert(loader, child, (*path, i), lines, source) for i, child in enumerate(node.value)]
    try:
        value = loader.construct_object(node)
        if isinstance(value, str) and not _is_text(value):
            raise ValueError("it is no text")
        if isinstance(value, int) and abs(value) >= LARGEST:
            raise ValueError("a whole number has 1,000 digits at most")
        if not isinstance(value, str | int | float | None):
            raise TypeError(f"a {type(value).__name__} has no place in a sweep")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        shown = repr(node.value if len(str(node.value)) < 60 else f"{str(node.value)[:50]}...")
        raise SpecError(f"{source}, line {lines[path]}: {shown} is no plain value: {error}") from None
    return value


def _is_text(text: str) -> bool:
    """Whether files and hashes can hold it: lone surrogates are in none."""
    try:
        text.encode()
        return True
    except UnicodeEncodeError:
        return False
