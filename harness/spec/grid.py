"""Read the keys of a sweep's file: seeds, tasks, solvers, protocols and experts, with grids of their fields."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import fields
from itertools import product
from typing import Any

from lfombench.solvers import SOLVERS, Solver
from lfombench.tasks import Task

from ..errors import SpecError, nearest
from .combinations import title
from .labels import known, label, plain
from .protocol import PROTOCOLS, Protocol
from .validation import FieldError, build
from .yaml_source import Document, Keys

MOST_SEEDS = 1_000_000
MOST_POINTS = 50_000  # of one grid


class Entries:
    """Reads the values of one grid. paths: the path in the document of each of the grid's keys.

    A method that reads parts returns each with its path.
    """

    def __init__(self, document: Document, paths: dict[str, Keys]) -> None:
        self.document, self.paths = document, paths

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key; `default` where the grid does not have the key."""
        if key not in self.paths:
            return default
        value = self.document.data
        for step in self.paths[key]:
            value = value[step]
        return value

    def seeds(self) -> list[int]:
        """The seeds: those of a list, or 0 .. count - 1."""
        value = self.get("seeds", 1)
        if isinstance(value, dict) and set(value) == {"each"}:
            value = value["each"]
        if type(value) is int and 1 <= value <= MOST_SEEDS:
            return list(range(value))
        if isinstance(value, list) and value and all(type(s) is int and abs(s) < 2**63 for s in value):
            return value
        raise self.document.error(
            self.paths["seeds"],
            f"got {json.dumps(value)[:60]}, must be a number of seeds from 1 to {MOST_SEEDS:,}, or a list of whole "
            "numbers",
        )

    def listed(self, kind: str, key: str) -> list[tuple[Any, Keys]]:
        """The tasks or solvers that a list of `name: {field: value}` entries stands for."""
        entries, path = self.get(key), self.paths[key]
        if not isinstance(entries, list) or (not entries and key != "tests"):
            raise self.document.error(
                path, f"must be a list of {kind}s that is not empty, such as `- name: {{field: value}}`"
            )
        return self.distinct([part for i, entry in enumerate(entries) for part in self.entry(kind, entry, (*path, i))])

    def solvers(self) -> tuple[list[tuple[Solver, Keys]], dict[str, list[str]]]:
        """The solvers, from a list, or from a mapping of names to solvers; then also the labels of each name."""
        entries, path = self.get("solvers"), self.paths["solvers"]
        if not isinstance(entries, dict):
            return self.listed("solver", "solvers"), {}
        solvers: list[tuple[Solver, Keys]] = []
        named: dict[str, list[str]] = {}
        for name, entry in entries.items():
            if name in SOLVERS:
                raise self.document.error(
                    (*path, name),
                    "must be a list of solvers, such as `- name: {field: value}`, or a mapping of other names to them",
                )
            of_name = self.entry("solver", entry, (*path, name))
            solvers += of_name
            named[name] = list(dict.fromkeys(label(solver) for solver, _ in of_name))
        return self.distinct(solvers), named

    def entry(self, kind: str, entry: Any, path: Keys) -> list[tuple[Any, Keys]]:
        """The tasks or solvers that a name or `name: {field: value}` stands for: several where a field is a grid."""
        if isinstance(entry, str):
            entry = {entry: {}}
        if not isinstance(entry, dict) or len(entry) != 1:
            raise self.document.error(path, f"got {json.dumps(entry)}, must be one {kind}: `name: {{field: value}}`")
        [(name, values)] = entry.items()
        try:
            cls, base = known(kind, name)
        except SpecError as error:
            raise self.document.error((*path, name), str(error)) from None
        return self.grid(cls, {} if values is None else values, (*path, name), base)

    def protocols(self) -> list[tuple[Protocol, Keys]]:
        """The protocols, from one entry or a list: each entry a name, or `{use: name, field: value}`."""
        value, top = self.get("protocol"), self.paths["protocol"]
        entries = [(entry, (*top, i)) for i, entry in enumerate(value)] if isinstance(value, list) else [(value, top)]
        protocols: list[tuple[Protocol, Keys]] = []
        for entry, path in entries:
            if isinstance(entry, str):
                entry = {"use": entry}
            if not isinstance(entry, dict) or "use" not in entry:
                raise self.document.error(
                    path, f"got {json.dumps(entry)}, must be `{{use: name, field: value}}`; {nearest('', PROTOCOLS)}"
                )
            for values, paths in self.choices(entry, path, mappings=("tune",)):
                if not isinstance(values["use"], str) or values["use"] not in PROTOCOLS:
                    raise self.document.error(
                        (*path, "use"), f"unknown protocol {values['use']!r}; {nearest(str(values['use']), PROTOCOLS)}"
                    )
                protocols.append((self.make(Protocol, plain(PROTOCOLS[values["use"]]) | values, paths, path), path))
        if not protocols:
            raise self.document.error(top, "none given")
        return self.distinct(protocols)

    def grid(self, cls: type[Any], values: Any, path: Keys, base: dict[str, Any]) -> list[tuple[Any, Keys]]:
        """Every instance of a class that an entry with grids stands for; fields that are not given are as in `base`."""
        if not isinstance(values, dict):
            raise self.document.error(path, f"got {json.dumps(values)}, must be a mapping of fields")
        kinds = {f.name: f.metadata["part"] for f in fields(cls) if "part" in f.metadata}
        parts = []
        for choice, paths in self.choices(values, path, tuple(kinds)):
            resolved = {
                key: self.experts(x, paths[key]) if kinds.get(key) == "expert" else x for key, x in choice.items()
            }
            parts.append((self.make(cls, base | resolved, paths, path), path))
        return parts

    def experts(self, entries: Any, path: Keys, trail: tuple[str, ...] = ()) -> Any:
        """The entries of a mixture's experts, where a name is replaced by what stands under the sweep's `experts`.

        trail: the names that led here, as an expert must not contain itself.
        """
        defined = self.get("experts") or {}
        if not isinstance(entries, list) or not isinstance(defined, dict):
            return entries
        resolved = []
        for i, entry in enumerate(entries):
            if isinstance(entry, str):
                if entry not in defined:
                    raise self.document.error(
                        (*path, i), f"no expert {entry!r} under experts; {nearest(entry, defined)}"
                    )
                if entry in trail:
                    raise self.document.error(
                        (*path, i), f"{' -> '.join((*trail, entry))}: an expert cannot be made of itself"
                    )
                defined_at = (*self.paths["experts"], entry)
                resolved.append(self._resolved(defined[entry], defined_at, (*trail, entry)))
            else:
                resolved.append(self._resolved(entry, (*path, i), trail))
        return resolved

    def _resolved(self, expert: Any, path: Keys, trail: tuple[str, ...]) -> Any:
        """The entry of an expert, with the names of its solver's own experts replaced likewise."""
        solver = expert.get("solver") if isinstance(expert, dict) else None
        if not isinstance(solver, dict):
            return expert
        resolved = {
            name: values | {"experts": self.experts(values["experts"], (*path, "solver", name, "experts"), trail)}
            if isinstance(values, dict) and "experts" in values
            else values
            for name, values in solver.items()
        }
        return expert | {"solver": resolved}

    def choices(
        self, values: dict[str, Any], path: Keys, mappings: tuple[str, ...] = ()
    ) -> Iterator[tuple[dict[str, Any], dict[str, Keys]]]:
        """Every combination of the grids in a mapping, by key: the values, and their paths.

        mappings: the keys whose values may be mappings that are no grids.
        """
        axes: list[list[tuple[Any, Keys]]] = []
        for key, value in values.items():
            key_path = (*path, key)
            if isinstance(value, dict) and not (key in mappings and set(value) != {"each"}):
                if set(value) != {"each"}:
                    raise self.document.error(
                        key_path, f"got {json.dumps(value)}; a mapping here can only be a grid, {{each: [...]}}"
                    )
                if not isinstance(value["each"], list) or not value["each"]:
                    raise self.document.error(
                        key_path, f"got {json.dumps(value)}; a grid needs a list that is not empty"
                    )
                axes.append([(v, (*key_path, "each", i)) for i, v in enumerate(value["each"])])
            else:
                axes.append([(value, key_path)])
        points = math.prod(map(len, axes))
        if points > MOST_POINTS:
            raise self.document.error(path, f"a grid of {points:,} points; at most {MOST_POINTS:,} can be one")
        for point in product(*axes):
            yield (
                {key: value for key, (value, _) in zip(values, point, strict=True)},
                {key: value_path for key, (_, value_path) in zip(values, point, strict=True)},
            )

    def make(self, cls: type[Any], values: dict[str, Any], paths: dict[str, Keys], path: Keys) -> Any:
        """An instance of a class; an error names the path of the field at fault, or else that of the whole entry."""
        try:
            part = build(cls, values)
            if isinstance(part, Task | Protocol):
                part.check()
            return part
        except FieldError as error:
            key = str(error.path[0]) if error.path else ""
            raise self.document.error((*paths.get(key, path), *error.path[1:]), str(error)) from None
        except ValueError as error:
            raise self.document.error(paths.get(str(error).partition(":")[0], path), str(error)) from None

    def distinct(self, parts: list[tuple[Any, Keys]]) -> list[tuple[Any, Keys]]:
        """The parts unchanged; SpecError at the second of two that are equal."""
        first: dict[Any, Keys] = {}
        for part, path in parts:
            if part in first:
                line = self.document.lines[first[part]]
                raise self.document.error(path, f"{title(part)} is given twice, first on line {line}")
            first[part] = path
        return parts
