"""Manifests: what a store remembers of each sweep that ran into it, sweeps/NAME.json."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

from ..errors import UserError
from .place import Place

FOLDER = "sweeps"


class Damaged(UserError):
    """A manifest that cannot be read."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A case of a sweep, the seeds that the sweep asks for, and the further tasks that they are tested on. told: what
    its solver is told of the distribution that others have to learn: covariance, edges (of the spectrum), prior or
    bayes; empty where it is told nothing.
    """

    task: str
    solver: str
    family: str
    depth: int
    protocol: str
    told: str
    tests: list[str]
    seeds: list[int]

    @property
    def case(self) -> tuple[Any, ...]:
        """What tells it from the others of a sweep."""
        return self.task, self.solver, self.depth, self.protocol, *self.tests


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A sweep as the store remembers it. Jobs are ids; tasks, solvers and protocols are labels."""

    name: str
    about: str = ""
    jobs: list[str] = field(default_factory=list)
    protocols: list[str] = field(default_factory=list)
    tests: list[str] = field(default_factory=list)
    skipped: list[dict[str, Any]] = field(default_factory=list)  # task, solver, depth, protocol and the reason
    axis: str | None = None  # the field that the sweep varies
    split: list[str] = field(default_factory=list)
    named: dict[str, list[str]] = field(default_factory=dict)  # the labels that each name of a solver stands for
    crossover: list[str] = field(default_factory=list)  # two of those names
    parts: list[str] = field(default_factory=list)  # names of sweeps whose jobs are also this one's
    extended: bool = False  # whether seeds were added until pairs of solvers were separated
    asked: list[Asked] = field(default_factory=list)  # the cases of its jobs; empty in stores of an older lfombench

    @property
    def content(self) -> str:
        """The manifest as its file has it."""
        return json.dumps(asdict(self), indent=1)


def path_of(sweep: str) -> str:
    """The file of a sweep's manifest, relative to the store."""
    return f"{FOLDER}/{sweep}.json"


def manifests(place: Place, pattern: str = "*") -> list[Manifest]:
    """The manifests of the sweeps whose names match, sorted by name; `Damaged` where one cannot be read."""
    found = []
    for file in place.names(FOLDER):
        if fnmatchcase(file, f"{pattern}.json"):
            try:
                values = json.loads(place.read(f"{FOLDER}/{file}") or b"null")
                values = {"asked": [], "extended": False} | values
                if values["name"] != file.removesuffix(".json"):
                    raise ValueError("of another name than its file")
                found.append(_sound({name: values[name] for name in Manifest.__dataclass_fields__}))
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
                path = place.path(f"{FOLDER}/{file}")
                raise Damaged(f"{path} is damaged: delete it, and run its sweep again") from error
    return found


def _sound(values: dict[str, Any]) -> Manifest:
    """A manifest of these values. TypeError where they are not of their types."""
    lists = all(
        isinstance(values[name], list) and set(map(type, values[name])) <= {str}
        for name in ("jobs", "protocols", "tests", "split", "crossover", "parts")
    )
    words = isinstance(values["name"], str) and isinstance(values["about"], str)
    named, skipped, axis = values["named"], values["skipped"], values["axis"]
    others = isinstance(named, dict) and all(isinstance(labels, list) for labels in named.values())
    others = others and isinstance(skipped, list) and all(isinstance(one, dict) for one in skipped)
    asked = [Asked(**case) for case in values["asked"]]
    others = others and all(_sound_case(case) for case in asked)
    others = others and isinstance(values["extended"], bool)
    if not (lists and words and others and isinstance(axis, str | None)):
        raise TypeError("not of the types that a manifest has")
    return Manifest(**values | {"asked": asked})


def _sound_case(case: Asked) -> bool:
    words = (case.task, case.solver, case.family, case.protocol, case.told)
    lists = isinstance(case.seeds, list) and isinstance(case.tests, list)
    numbers = lists and set(map(type, (case.depth, *case.seeds))) <= {int}
    return numbers and all(isinstance(word, str) for word in (*words, *case.tests))


def jobs_by_sweep(place: Place) -> dict[str, list[str]]:
    """The ids of each sweep's own jobs, by its name."""
    return {manifest.name: manifest.jobs for manifest in manifests(place)}


def jobs_of(place: Place, sweep: str, within: tuple[str, ...] = ()) -> set[str]:
    """The ids of the jobs of a sweep and its parts. within: the sweeps whose part it is."""
    ids: set[str] = set()
    for manifest in manifests(place, sweep):
        parts = (part for part in manifest.parts if part not in within)
        ids.update(manifest.jobs, *(jobs_of(place, part, (*within, sweep)) for part in parts))
    return ids


def joined(ours: Manifest | None, theirs: Manifest) -> Manifest:
    """One manifest for a sweep that two stores know: our settings, the jobs and tests of both."""
    if ours is None:
        return theirs
    jobs, tests = (list(dict.fromkeys([*a, *b])) for a, b in ((ours.jobs, theirs.jobs), (ours.tests, theirs.tests)))
    cases = {case.case: case for case in ours.asked}
    for case in theirs.asked:
        known = cases.get(case.case)
        seeds = list(dict.fromkeys([*(known.seeds if known else ()), *case.seeds]))
        cases[case.case] = replace(known or case, seeds=seeds)
    extended = ours.extended or theirs.extended
    return replace(ours, jobs=jobs, tests=tests, extended=extended, asked=list(cases.values()))
