"""Load sweeps from files: YAML, or Python that defines `sweep`.

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

Keys are fields of dataclasses. `{each: [...]}` is a grid; a bare list is a value. Solvers may have names of their own,
`solvers: {NAME: {memformer: {...}}, ...}`, which boards use. Instead of tasks and solvers a sweep may have `parts`:
names of other sweeps, or mappings with the keys above. A mapping takes the keys that it lacks, `name` too, from the
sweep around it.
"""

from __future__ import annotations

import json
import os
import runpy
from pathlib import Path
from typing import Any

from ..errors import SpecError, nearest
from .grid import Entries
from .sweep import ImpossibleError, Sweep, check_name
from .yaml_source import Document, Keys, PlacedError, read

SHIPPED = Path(__file__).parents[1] / "sweeps"
REQUIRED = ("name", "protocol", "tasks", "solvers")
OPTIONAL = ("about", "seeds", "tests", "skip", "axis", "split", "experts", "crossover", "parts")
IN_PART = (*REQUIRED, *OPTIONAL[:-1])


def shipped() -> dict[str, Path]:
    """The sweeps that come with the package, by name."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.yaml"))}


def load(source: str, within: tuple[Path, ...] = ()) -> Sweep:
    """A sweep from a .yaml file, from a .py file that defines `sweep`, or from the name of a shipped sweep.

    within: the files whose part it is, of which it must be none.
    """
    path = shipped().get(source, Path(source))
    if not os.path.isfile(path):
        shown = source if len(source) < 200 else f"{source[:190]}..."
        raise SpecError(f"no sweep {shown!r}: neither a file nor a shipped sweep; {nearest(source[:200], shipped())}")
    if path.resolve() in within:
        raise SpecError(f"{path} is a part of itself")
    if path.suffix == ".py":
        try:
            sweep = runpy.run_path(str(path)).get("sweep")
        except SpecError:
            raise
        except (Exception, SystemExit) as error:
            raise SpecError(f"{path} cannot be run: {type(error).__name__}: {error}") from error
        if not isinstance(sweep, Sweep):
            raise SpecError(f"{path}: defines no `sweep` of type lfombench.harness.Sweep")
        return sweep
    return parse(read(path), (*within, path.resolve()))


def parse(document: Document, within: tuple[Path, ...] = ()) -> Sweep:
    """A sweep from a YAML document; every error names file, line and key. within: the files whose part it is."""
    data = document.data
    if not isinstance(data, dict):
        raise document.error((), f"a sweep is a mapping with the keys {', '.join(REQUIRED)}")
    for key in data:
        if key not in REQUIRED + OPTIONAL:
            raise document.error((key,), f"unknown key {key!r}; {nearest(key, REQUIRED + OPTIONAL)}")
    for key in ("name",) if "parts" in data else REQUIRED:
        if key not in data:
            raise document.error((), f"{key!r} is missing")
    _check(document, data, ())
    if "parts" in data:
        return _of_parts(document, within)
    return _grid(document, {key: (key,) for key in data})


def _check(document: Document, data: dict[str, Any], path: Keys) -> None:
    """Raise SpecError where a key that describes a sweep or a part, such as name or split, has an invalid value."""
    for key in ("name", "about", "axis"):
        if not isinstance(data.get(key, ""), str):
            raise document.error((*path, key), f"got {json.dumps(data[key])}, must be text")
    for key, allowed in (("split", "a field or a list of fields"), ("crossover", "a list of two names")):
        value = data.get(key, [])
        is_list = isinstance(value, list) and all(isinstance(item, str) for item in value)
        if not is_list and not (key == "split" and isinstance(value, str)):
            raise document.error((*path, key), f"got {json.dumps(value)}, must be {allowed}")
    if not isinstance(data.get("skip", False), bool):
        raise document.error((*path, "skip"), f"got {json.dumps(data['skip'])}, must be true or false")
    try:
        check_name(data.get("name", "unnamed"))
    except SpecError as error:
        raise document.error((*path, "name"), str(error)) from None


def _of_parts(document: Document, within: tuple[Path, ...]) -> Sweep:
    """A sweep of parts: each is the name of another sweep, or a mapping that is one grid."""
    data, parts = document.data, document.data["parts"]
    if not isinstance(parts, list) or not parts:
        raise document.error(("parts",), "must be a list of sweeps' names, or of mappings, that is not empty")
    sweeps = []
    for i, part in enumerate(parts):
        path: Keys = ("parts", i)
        if isinstance(part, str):
            try:
                sweeps.append(load(part, within))
            except SpecError as error:
                raise document.error(path, str(error)) from None
            continue
        if not isinstance(part, dict):
            raise document.error(path, f"got {json.dumps(part)}, must be a sweep's name or a mapping")
        for key in part:
            if key not in IN_PART:
                raise document.error((*path, key), f"unknown key {key!r}; {nearest(key, IN_PART)}")
        _check(document, part, path)
        paths = {key: (key,) for key in data if key != "parts"} | {key: (*path, key) for key in part}
        for key in REQUIRED:
            if key not in paths:
                raise document.error(path, f"{key!r} is missing, here and above")
        sweeps.append(_grid(document, paths))
    return Sweep(name=data["name"], about=data.get("about", ""), parts=_grouped_by_name(sweeps, data["name"]))


def _grouped_by_name(parts: list[Sweep], name: str) -> list[Sweep]:
    """Parts that share a name as one sweep of these parts; parts with the name of the whole sweep stay separate."""
    groups: dict[str | int, list[Sweep]] = {}
    for i, part in enumerate(parts):
        groups.setdefault(i if part.name == name else part.name, []).append(part)
    return [
        Sweep(name=group[0].name, about=group[0].about, parts=group) if len(group) > 1 else group[0]
        for group in groups.values()
    ]


def _grid(document: Document, paths: dict[str, Keys]) -> Sweep:
    """A sweep that is one grid. paths: the path in the document of each of its keys."""
    entries = Entries(document, paths)
    tasks, (solvers, named) = entries.listed("task", "tasks"), entries.solvers()
    tests = entries.listed("task", "tests") if entries.get("tests") is not None else []
    protocols, skip, split = entries.protocols(), bool(entries.get("skip", False)), entries.get("split") or []
    try:
        return Sweep(
            name=entries.get("name"),
            about=entries.get("about", ""),
            tasks=[task for task, _ in tasks],
            solvers=[solver for solver, _ in solvers],
            protocols=[protocol for protocol, _ in protocols],
            seeds=entries.seeds(),
            tests=[test for test, _ in tests],
            skip=skip,
            axis=entries.get("axis"),
            split=[split] if isinstance(split, str) else split,
            named=named,
            crossover=entries.get("crossover") or (),
        )
    except ImpossibleError as error:
        if error.skip:
            raise document.error((), str(error)) from None
        [path] = [path for solver, path in solvers if solver == error.skipped[0].solver]
        raise document.error(path, f"{error}; or say skip: true") from None
    except PlacedError:
        raise
    except SpecError as error:
        key = str(error).partition(":")[0].partition(" ")[0]
        raise document.error(paths.get(key, ()), str(error)) from None
