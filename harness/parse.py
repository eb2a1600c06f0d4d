"""Sweeps from files: YAML, or Python that defines `sweep`.

    name: fig1
    protocol: {use: rigorous, steps: 5000}          # or a list of protocols
    seeds: 5                                        # 0 .. 4, or a list of seeds
    tasks:
      - figure_1                                    # from the catalogue, or a class with fields:
      - linear_regression: {d: 5, n: 20, spectrum: [1, 1, 0.5, 0.25, 1]}
    solvers:
      - conjugate_gradient: {depth: 4}
      - memformer: {memory: cgd, preconditioner: full, depth: {each: [1, 2, 3, 4]}}
    tests: []                                       # further test tasks

Keys are fields of dataclasses. `{each: [...]}` is a grid; a bare list is a value. Instead of tasks and solvers a sweep
may have `parts`: names of other sweeps, or mappings with the keys above, which take what they lack from around them.
"""

from __future__ import annotations

import json
import runpy
from collections.abc import Iterator
from dataclasses import fields
from itertools import product
from pathlib import Path
from typing import Any

from lfombench.solvers import Solver
from lfombench.tasks import Task

from .build import FieldError, build
from .document import Document, Keys, read
from .errors import SpecError, nearest
from .names import known, plain
from .protocol import PROTOCOLS, Protocol
from .sweep import Sweep, check_name, possible, title

SHIPPED = Path(__file__).parent / "sweeps"
REQUIRED = ("name", "protocol", "tasks", "solvers")
OPTIONAL = ("about", "seeds", "tests", "skip", "axis", "split", "parts", "experts")
IN_PART = ("protocol", "seeds", "tasks", "solvers", "experts")
MOST_SEEDS = 1_000_000


def shipped() -> dict[str, Path]:
    """The sweeps that come with the package, by name."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.yaml"))}


def load(source: str) -> Sweep:
    """A sweep from a .yaml file, a .py file that defines `sweep`, or the name of a shipped one."""
    path = shipped().get(source, Path(source))
    if not path.is_file():
        raise SpecError(f"no sweep {source!r}: neither a file nor a shipped sweep; {nearest(source, shipped())}")
    if path.suffix == ".py":
        try:
            found = runpy.run_path(str(path)).get("sweep")
        except SpecError:
            raise
        except (Exception, SystemExit) as error:
            raise SpecError(f"{path} cannot be run: {type(error).__name__}: {error}") from error
        if not isinstance(found, Sweep):
            raise SpecError(f"{path}: defines no `sweep` of type lfombench.harness.Sweep")
        return found
    return parse(read(path))


def parse(document: Document) -> Sweep:
    """A sweep from YAML; every fault names file, line and key."""
    data = document.data
    if not isinstance(data, dict):
        raise document.error((), f"a sweep is a mapping with the keys {', '.join(REQUIRED)}")
    for key in data:
        if key not in REQUIRED + OPTIONAL:
            raise document.error((key,), f"unknown key {key!r}; {nearest(key, REQUIRED + OPTIONAL)}")
    for key in ("name",) if "parts" in data else REQUIRED:
        if key not in data:
            raise document.error((), f"{key!r} is missing")
    for key in ("name", "about", "axis"):
        if not isinstance(data.get(key, ""), str):
            raise document.error((key,), f"got {json.dumps(data[key])}, must be text")
    split = data.get("split", [])
    if not isinstance(split, str) and not (isinstance(split, list) and all(isinstance(one, str) for one in split)):
        raise document.error(("split",), f"got {json.dumps(split)}, must be a field or a list of fields")
    if not isinstance(data.get("skip", False), bool):
        raise document.error(("skip",), f"got {json.dumps(data['skip'])}, must be true or false")
    try:
        check_name(data["name"])
    except SpecError as error:
        raise document.error(("name",), str(error)) from None
    if "parts" in data:
        return _of_parts(document)
    return _grid(document, {key: (key,) for key in data})


def _of_parts(document: Document) -> Sweep:
    data, parts = document.data, document.data["parts"]
    if not isinstance(parts, list) or not parts:
        raise document.error(("parts",), "must be a list of sweeps' names, or of mappings, that is not empty")
    made = []
    for i, part in enumerate(parts):
        at: Keys = ("parts", i)
        if isinstance(part, str):
            try:
                made.append(load(part))
            except SpecError as error:
                raise document.error(at, str(error)) from None
            continue
        if not isinstance(part, dict):
            raise document.error(at, f"got {json.dumps(part)}, must be a sweep's name or a mapping")
        for key in part:
            if key not in IN_PART:
                raise document.error((*at, key), f"unknown key {key!r}; {nearest(key, IN_PART)}")
        places = {key: (key,) for key in data if key != "parts"} | {key: (*at, key) for key in part}
        for key in REQUIRED:
            if key not in places:
                raise document.error(at, f"{key!r} is missing, here and above")
        made.append(_grid(document, places))
    return Sweep(name=data["name"], about=data.get("about", ""), parts=made)


def _grid(document: Document, places: dict[str, Keys]) -> Sweep:
    """A sweep that is one grid; `places` says where each of its keys stands."""
    parts = _Parts(document, places)
    tasks, solvers = parts.named("task", "tasks"), parts.named("solver", "solvers")
    tests = parts.named("task", "tests") if parts.get("tests") is not None else []
    protocols, skip, split = parts.protocols(), bool(parts.get("skip", False)), parts.get("split") or []
    if not skip:
        parts.fit(tasks, solvers, protocols, [test for test, _ in tests])
    try:
        return Sweep(
            name=parts.get("name"),
            about=parts.get("about", ""),
            tasks=[task for task, _ in tasks],
            solvers=[solver for solver, _ in solvers],
            protocols=[protocol for protocol, _ in protocols],
            seeds=parts.seeds(),
            tests=[test for test, _ in tests],
            skip=skip,
            axis=parts.get("axis"),
            split=[split] if isinstance(split, str) else split,
        )
    except SpecError as error:
        key = str(error).partition(":")[0].partition(" ")[0]
        raise document.error(places.get(key, ()), str(error)) from None


class _Parts:
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

    def named(self, kind: str, key: str) -> list[tuple[Any, Keys]]:
        """Tasks or solvers: a list of `name: {field: value}`."""
        entries, place = self.get(key), self.places[key]
        if not isinstance(entries, list) or (not entries and key != "tests"):
            raise self.document.error(
                place, f"must be a list of {kind}s that is not empty, such as `- name: {{field: value}}`"
            )
        made: list[tuple[Any, Keys]] = []
        for i, entry in enumerate(entries):
            at: Keys = (*place, i)
            if isinstance(entry, str):
                entry = {entry: {}}
            if not isinstance(entry, dict) or len(entry) != 1:
                raise self.document.error(at, f"got {json.dumps(entry)}, must be one {kind}: `name: {{field: value}}`")
            [(name, values)] = entry.items()
            try:
                cls, base = known(kind, name)
            except SpecError as error:
                raise self.document.error((*at, name), str(error)) from None
            made += self.grid(cls, {} if values is None else values, (*at, name), base)
        return self.distinct(made)

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

    def fit(
        self,
        tasks: list[tuple[Task, Keys]],
        solvers: list[tuple[Solver, Keys]],
        protocols: list[tuple[Protocol, Keys]],
        tests: list[Task],
    ) -> None:
        """Every combination is possible."""
        for (task, _), (solver, at), (protocol, _) in product(tasks, solvers, protocols):
            try:
                possible(task, solver, protocol, tests)
            except SpecError as error:
                raise self.document.error(at, f"{error}; or say skip: true") from None
