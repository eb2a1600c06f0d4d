"""A sweep: a named set of jobs, written as YAML or as Python.

    name: fig1
    protocol: {use: rigorous, steps: 5000}          # or a list of protocols
    seeds: 5                                        # 0 .. 4, or a list of seeds
    tasks:
      - linear_regression: {d: 5, n: 20, spectrum: [1, 1, 0.5, 0.25, 1]}
    solvers:
      - conjugate_gradient: {depth: 4}
      - memformer: {memory: cgd, preconditioner: full, depth: {each: [1, 2, 3, 4]}}
    tests: []                                       # further test tasks

Keys are fields of dataclasses. `{each: [...]}` is a grid; a bare list is a value.
"""

from __future__ import annotations

import json
import re
import runpy
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

from lfombench.solvers import Solver
from lfombench.tasks import Task

from .document import Document, Keys, read
from .errors import SpecError, nearest
from .job import FieldError, Job, build, find, label
from .protocol import PROTOCOLS, Protocol

SHIPPED = Path(__file__).parent / "sweeps"
REQUIRED = ("name", "protocol", "tasks", "solvers")
OPTIONAL = ("about", "seeds", "tests")
MOST_SEEDS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Every solver on every task under every protocol with every seed; each also tested on the `tests`."""

    name: str
    tasks: Sequence[Task]
    solvers: Sequence[Solver]
    protocols: Sequence[Protocol] = (PROTOCOLS["rigorous"],)
    seeds: Sequence[int] = (0,)
    tests: Sequence[Task] = ()
    about: str = ""

    def __post_init__(self) -> None:
        _check_name(self.name)
        if isinstance(self.seeds, int):
            raise SpecError(f"seeds: got {self.seeds}, must be a list of seeds, such as range({self.seeds})")
        for kind in ("tasks", "solvers", "protocols", "seeds"):
            if not getattr(self, kind):
                raise SpecError(f"{kind}: none given")
        for kind, base in {"tasks": Task, "solvers": Solver, "protocols": Protocol, "tests": Task}.items():
            for part in getattr(self, kind):
                if not isinstance(part, base):
                    such = f", such as PROTOCOLS[{part!r}]" if part in tuple(PROTOCOLS) else ""
                    raise SpecError(f"{kind}: got {part!r}, must be a {base.__name__}{such}")
        for kind in ("tasks", "solvers", "protocols", "tests"):
            try:
                made = [build(type(part), asdict(part)) for part in getattr(self, kind)]
                for part in made:
                    if isinstance(part, Task | Protocol):
                        part.check()
            except ValueError as error:
                raise SpecError(f"{kind}: {error}") from None
            object.__setattr__(self, kind, made)
        for kind in ("tasks", "solvers", "protocols", "seeds", "tests"):
            seen: set[Any] = set()
            for part in getattr(self, kind):
                if part in seen:
                    raise SpecError(f"{kind}: {part if isinstance(part, int) else _title(part)} is given twice")
                seen.add(part)
        for task, solver, protocol in product(self.tasks, self.solvers, self.protocols):
            possible(task, solver, protocol)
        for test, solver, protocol in product(self.tests, self.solvers, self.protocols):
            possible(test, solver, protocol)
        for test, task in product(self.tests, self.tasks):
            if test.d != task.d:
                raise SpecError(
                    f"tests: {label(test)} has d = {test.d}, the training task {label(task)} has d = {task.d}"
                )

    def __len__(self) -> int:
        return len(self.protocols) * len(self.tasks) * len(self.solvers) * len(self.seeds)

    def jobs(self) -> Iterator[Job]:
        """Every job, protocols outermost, seeds innermost."""
        for protocol, task, solver, seed in product(self.protocols, self.tasks, self.solvers, self.seeds):
            yield Job(task=task, solver=solver, protocol=protocol, seed=seed)


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
    for key in REQUIRED:
        if key not in data:
            raise document.error((), f"{key!r} is missing")
    for key in ("name", "about"):
        if not isinstance(data.get(key, ""), str):
            raise document.error((key,), f"got {data[key]!r}, must be text")
    try:
        _check_name(data["name"])
    except SpecError as error:
        raise document.error(("name",), str(error)) from None
    parts = _Parts(document)
    tasks, solvers = parts.named("task", "tasks"), parts.named("solver", "solvers")
    protocols = parts.protocols()
    seeds = _seeds(document)
    parts.fit(tasks, solvers, protocols)
    return Sweep(
        name=data["name"],
        about=data.get("about", ""),
        tasks=[task for task, _ in tasks],
        solvers=[solver for solver, _ in solvers],
        protocols=[protocol for protocol, _ in protocols],
        seeds=seeds,
        tests=[task for task, _ in parts.named("task", "tests")] if data.get("tests") is not None else [],
    )


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}", name):
        raise SpecError(f"name: got {name!r}; allowed: up to 100 letters, digits, '.', '_' and '-', no '.' in front")


def _seeds(document: Document) -> list[int]:
    given = document.data.get("seeds", 1)
    if isinstance(given, dict) and set(given) == {"each"}:
        given = given["each"]
    if type(given) is int and 1 <= given <= MOST_SEEDS:
        return list(range(given))
    if isinstance(given, list) and given and all(type(s) is int and abs(s) < 2**63 for s in given):
        return given
    raise document.error(
        ("seeds",),
        f"got {json.dumps(given)[:60]}, must be a number of seeds from 1 to {MOST_SEEDS:,}, or a list of whole numbers",
    )


class _Parts:
    """Reads the parts of one document, each with the keys that lead to it."""

    def __init__(self, document: Document) -> None:
        self.document = document

    def named(self, kind: str, key: str) -> list[tuple[Any, Keys]]:
        """Tasks or solvers: a list of `name: {field: value}`."""
        entries = self.document.data[key]
        if not isinstance(entries, list) or (not entries and key != "tests"):
            raise self.document.error(
                (key,), f"must be a list of {kind}s that is not empty, such as `- name: {{field: value}}`"
            )
        made: list[tuple[Any, Keys]] = []
        for i, entry in enumerate(entries):
            at: Keys = (key, i)
            if isinstance(entry, str):
                entry = {entry: {}}
            if not isinstance(entry, dict) or len(entry) != 1:
                raise self.document.error(at, f"got {json.dumps(entry)}, must be one {kind}: `name: {{field: value}}`")
            [(name, values)] = entry.items()
            try:
                cls = find(kind, name)
            except SpecError as error:
                raise self.document.error((*at, name), str(error)) from None
            made += self.grid(cls, {} if values is None else values, (*at, name))
        return self.distinct(made)

    def protocols(self) -> list[tuple[Protocol, Keys]]:
        """One protocol or a list: each a name, or `{use: name, field: value}`."""
        given = self.document.data["protocol"]
        entries = (
            [(entry, ("protocol", i)) for i, entry in enumerate(given)]
            if isinstance(given, list)
            else [(given, ("protocol",))]
        )
        made: list[tuple[Protocol, Keys]] = []
        for entry, at in entries:
            if isinstance(entry, str):
                entry = {"use": entry}
            if not isinstance(entry, dict) or "use" not in entry:
                raise self.document.error(
                    at, f"got {json.dumps(entry)}, must be `{{use: name, field: value}}`; {nearest('', PROTOCOLS)}"
                )
            for values, where in self.choices(entry, at):
                if not isinstance(values["use"], str) or values["use"] not in PROTOCOLS:
                    raise self.document.error(
                        (*at, "use"), f"unknown protocol {values['use']!r}; {nearest(str(values['use']), PROTOCOLS)}"
                    )
                made.append((self.make(Protocol, asdict(PROTOCOLS[values["use"]]) | values, where, at), at))
        if not made:
            raise self.document.error(("protocol",), "none given")
        return self.distinct(made)

    def grid(self, cls: type[Any], values: Any, at: Keys) -> list[tuple[Any, Keys]]:
        """Every instance of a class that an entry with grids stands for."""
        if not isinstance(values, dict):
            raise self.document.error(at, f"got {json.dumps(values)}, must be a mapping of fields")
        return [(self.make(cls, chosen, where, at), at) for chosen, where in self.choices(values, at)]

    def choices(self, values: dict[str, Any], at: Keys) -> Iterator[tuple[dict[str, Any], dict[str, Keys]]]:
        """The product of the grids in a mapping, with the keys that lead to each value."""
        axes: list[list[tuple[Any, Keys]]] = []
        for key, value in values.items():
            here = (*at, key)
            if isinstance(value, dict):
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
                raise self.document.error(at, f"{_title(part)} is given twice, first on line {line}")
            first[part] = at
        return made

    def fit(
        self, tasks: list[tuple[Task, Keys]], solvers: list[tuple[Solver, Keys]], protocols: list[tuple[Protocol, Keys]]
    ) -> None:
        """Every combination is possible."""
        for (task, _), (solver, at), (protocol, _) in product(tasks, solvers, protocols):
            try:
                possible(task, solver, protocol)
            except SpecError as error:
                raise self.document.error(at, str(error)) from None


def possible(task: Task, solver: Solver, protocol: Protocol) -> None:
    """SpecError where these cannot make a job."""
    try:
        Job(task=task, solver=solver, protocol=protocol, seed=0)
    except (SpecError, ValueError) as error:
        raise SpecError(f"{_title(solver)} on {label(task)}: {error}") from None


def _title(part: Any) -> str:
    """A label that tells depths apart."""
    return f"{label(part)} of depth {part.depth}" if isinstance(part, Solver) else label(part)
