"""What stands under the keys of a sweep's file: seeds, tasks, solvers, protocols, experts; grids of their fields."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields
from itertools import product
from typing import Any

from lfombench.solvers import SOLVERS, Solver
from lfombench.tasks import Task

from ..errors import SpecError, nearest
from .labels import known, label, plain
from .protocol import PROTOCOLS, Protocol
from .sweep import title
from .validation import FieldError, build
from .yaml_source import Document, Keys

MOST_SEEDS = 1_000_000


class Entries:
    """Reads the parts of one grid, each with the keys that lead to it."""

    def __init__(self, document: Document, places: dict[str, Keys]) -> None:
        self.document, self.places = document, places

    def get(self, key: str, default: Any = None) -> Any:
        """What stands at a key."""
        if key not in self.places:
            return default
        found = self.document.data
        for step in self.places[key]:
            found = found[step]
        return found

    def seeds(self) -> list[int]:
        """A list of seeds."""
        given = self.get("seeds", 1)
        if isinstance(given, dict) and set(given) == {"each"}:
            given = given["each"]
        if type(given) is int and 1 <= given <= MOST_SEEDS:
            return list(range(given))
        if isinstance(given, list) and given and all(type(s) is int and abs(s) < 2**63 for s in given):
            return given
        raise self.document.error(
            self.places["seeds"],
            f"got {json.dumps(given)[:60]}, must be a number of seeds from 1 to {MOST_SEEDS:,}, or a list of whole "
            "numbers",
        )

    def listed(self, kind: str, key: str) -> list[tuple[Any, Keys]]:
        """Tasks or solvers: a list of `name: {field: value}`."""
        entries, place = self.get(key), self.places[key]
        if not isinstance(entries, list) or (not entries and key != "tests"):
            raise self.document.error(
                place, f"must be a list of {kind}s that is not empty, such as `- name: {{field: value}}`"
            )
        return self.distinct([one for i, entry in enumerate(entries) for one in self.entry(kind, entry, (*place, i))])

    def solvers(self) -> tuple[list[tuple[Solver, Keys]], dict[str, list[str]]]:
        """A list of them, or a mapping of names to them: then also the labels that each name stands for."""
        entries, place = self.get("solvers"), self.places["solvers"]
        if not isinstance(entries, dict):
            return self.listed("solver", "solvers"), {}
        made: list[tuple[Solver, Keys]] = []
        named: dict[str, list[str]] = {}
        for name, entry in entries.items():
            if name in SOLVERS:
                raise self.document.error(
                    (*place, name),
                    "must be a list of solvers, such as `- name: {field: value}`, or a mapping of other names to them",
                )
            found = self.entry("solver", entry, (*place, name))
            made += found
            named[name] = list(dict.fromkeys(label(solver) for solver, _ in found))
        return self.distinct(made), named

    def entry(self, kind: str, entry: Any, at: Keys) -> list[tuple[Any, Keys]]:
        """What `name: {field: value}` stands for."""
        if isinstance(entry, str):
            entry = {entry: {}}
        if not isinstance(entry, dict) or len(entry) != 1:
            raise self.document.error(at, f"got {json.dumps(entry)}, must be one {kind}: `name: {{field: value}}`")
        [(name, values)] = entry.items()
        try:
            cls, base = known(kind, name)
        except SpecError as error:
            raise self.document.error((*at, name), str(error)) from None
        return self.grid(cls, {} if values is None else values, (*at, name), base)

    def protocols(self) -> list[tuple[Protocol, Keys]]:
        """One protocol or a list: each a name, or `{use: name, field: value}`."""
        given, place = self.get("protocol"), self.places["protocol"]
        entries = (
            [(entry, (*place, i)) for i, entry in enumerate(given)] if isinstance(given, list) else [(given, place)]
        )
        made: list[tuple[Protocol, Keys]] = []
        for entry, at in entries:
            if isinstance(entry, str):
                entry = {"use": entry}
            if not isinstance(entry, dict) or "use" not in entry:
                raise self.document.error(
                    at, f"got {json.dumps(entry)}, must be `{{use: name, field: value}}`; {nearest('', PROTOCOLS)}"
                )
            for values, where in self.choices(entry, at, plain=("tune",)):
                if not isinstance(values["use"], str) or values["use"] not in PROTOCOLS:
                    raise self.document.error(
                        (*at, "use"), f"unknown protocol {values['use']!r}; {nearest(str(values['use']), PROTOCOLS)}"
                    )
                made.append((self.make(Protocol, plain(PROTOCOLS[values["use"]]) | values, where, at), at))
        if not made:
            raise self.document.error(place, "none given")
        return self.distinct(made)

    def grid(self, cls: type[Any], values: Any, at: Keys, base: dict[str, Any]) -> list[tuple[Any, Keys]]:
        """Every instance of a class that an entry with grids stands for; fields that are not given are as in `base`."""
        if not isinstance(values, dict):
            raise self.document.error(at, f"got {json.dumps(values)}, must be a mapping of fields")
        kinds = {f.name: f.metadata["part"] for f in fields(cls) if "part" in f.metadata}
        made = []
        for chosen, where in self.choices(values, at, tuple(kinds)):
            meant = {key: self.experts(x, where[key]) if kinds.get(key) == "expert" else x for key, x in chosen.items()}
            made.append((self.make(cls, base | meant, where, at), at))
        return made

    def experts(self, given: Any, at: Keys, trail: tuple[str, ...] = ()) -> Any:
        """What is given as a mixture's experts, with those that are named under `experts` in place of their names."""
        defined = self.get("experts") or {}
        if not isinstance(given, list) or not isinstance(defined, dict):
            return given
        meant = []
        for i, one in enumerate(given):
            if isinstance(one, str):
                if one not in defined:
                    raise self.document.error((*at, i), f"no expert {one!r} under experts; {nearest(one, defined)}")
                if one in trail:
                    raise self.document.error(
                        (*at, i), f"{' -> '.join((*trail, one))}: an expert cannot be made of itself"
                    )
                here = (*self.places["experts"], one)
                meant.append(self._inner(defined[one], here, (*trail, one)))
            else:
                meant.append(self._inner(one, (*at, i), trail))
        return meant

    def _inner(self, expert: Any, at: Keys, trail: tuple[str, ...]) -> Any:
        """An expert whose own experts are meant likewise."""
        solver = expert.get("solver") if isinstance(expert, dict) else None
        if not isinstance(solver, dict):
            return expert
        inner = {
            name: values | {"experts": self.experts(values["experts"], (*at, "solver", name, "experts"), trail)}
            if isinstance(values, dict) and "experts" in values
            else values
            for name, values in solver.items()
        }
        return expert | {"solver": inner}

    def choices(
        self, values: dict[str, Any], at: Keys, plain: tuple[str, ...] = ()
    ) -> Iterator[tuple[dict[str, Any], dict[str, Keys]]]:
        """The product of the grids in a mapping, with the keys that lead to each value; `plain` keys hold mappings."""
        axes: list[list[tuple[Any, Keys]]] = []
        for key, value in values.items():
            here = (*at, key)
            if isinstance(value, dict) and not (key in plain and set(value) != {"each"}):
                if set(value) != {"each"}:
                    raise self.document.error(
                        here, f"got {json.dumps(value)}; a mapping here can only be a grid, {{each: [...]}}"
                    )
                if not isinstance(value["each"], list) or not value["each"]:
                    raise self.document.error(here, f"got {json.dumps(value)}; a grid needs a list that is not empty")
                axes.append([(v, (*here, "each", i)) for i, v in enumerate(value["each"])])
            else:
                axes.append([(value, here)])
        for point in product(*axes):
            yield (
                {key: value for key, (value, _) in zip(values, point, strict=True)},
                {key: where for key, (_, where) in zip(values, point, strict=True)},
            )

    def make(self, cls: type[Any], values: dict[str, Any], where: dict[str, Keys], at: Keys) -> Any:
        """One instance."""
        try:
            part = build(cls, values)
            if isinstance(part, Task | Protocol):
                part.check()
            return part
        except FieldError as error:
            key = str(error.path[0]) if error.path else ""
            raise self.document.error((*where.get(key, at), *error.path[1:]), str(error)) from None
        except ValueError as error:
            raise self.document.error(where.get(str(error).partition(":")[0], at), str(error)) from None

    def distinct(self, made: list[tuple[Any, Keys]]) -> list[tuple[Any, Keys]]:
        """The same, or an error at the second of two that are equal."""
        first: dict[Any, Keys] = {}
        for part, at in made:
            if part in first:
                line = self.document.lines[first[part]]
                raise self.document.error(at, f"{title(part)} is given twice, first on line {line}")
            first[part] = at
        return made
