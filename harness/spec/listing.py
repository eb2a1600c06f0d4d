"""The jobs of grids, each once, listed one by one: a grid with a million seeds is never in memory as a whole."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass

from lfombench.tasks import Task

from ..errors import SpecError
from .combinations import combined
from .job import Case, Job


@dataclass(frozen=True)
class Place:
    """A case in a grid with each of the grid's seeds, shifted, and the further tasks it is tested on there."""

    case: Case
    shift: int
    tests: tuple[Task, ...]


@dataclass(frozen=True)
class Listing:
    """The jobs of one grid: of its cases, and of the experts of those that are mixtures.

    along: tasks that experts are tested on too where they can be, so that experts of all tasks are tested alike.
    """

    cases: Sequence[Case]
    seeds: Sequence[int]
    tests: tuple[Task, ...]
    along: Sequence[Task]

    @functools.cached_property
    def own(self) -> list[Place]:
        """The places of the grid's own cases."""
        return [Place(case, 0, self.tests) for case in self.cases]

    @functools.cached_property
    def experts(self) -> list[list[Place]]:
        """The places of each mixture's experts; an expert's experts come before it."""

        def below(case: Case) -> Iterator[tuple[Case, int]]:
            for expert, entry in zip(case.experts, getattr(case.solver, "experts", ()), strict=True):
                yield from ((one, entry.apart + shift) for one, shift in below(expert))
                yield expert, entry.apart

        mixtures = [dict.fromkeys(below(case)) for case in self.cases if case.experts]
        tests = {case: self._transfers(case) for experts in mixtures for case, _ in experts}
        return [[Place(case, shift, tests[case]) for case, shift in experts] for experts in mixtures]

    def _transfers(self, expert: Case) -> tuple[Task, ...]:
        """The tasks that an expert can be tested on; its own task may be among them."""
        tasks = []
        for task in self.along:
            with contextlib.suppress(SpecError):
                combined(expert.task, expert.solver, expert.protocol, [task])
                tasks.append(task)
        return tuple(tasks)

    @functools.cached_property
    def by_case(self) -> dict[str, list[Place]]:
        """The places of each case, by its id with seed 0; its own come before those it has as an expert."""
        found: dict[str, list[Place]] = {}
        for place in (*self.own, *(place for experts in self.experts for place in experts)):
            found.setdefault(place.case.id(0), []).append(place)
        return found

    @functools.cached_property
    def seed_set(self) -> Container[int]:
        """The grid's seeds, to look one up."""
        seeds = list(self.seeds)
        return range(len(seeds)) if seeds == list(range(len(seeds))) else frozenset(seeds)

    def has(self, places: Sequence[Place], seed: int) -> Place | None:
        """The first of these places that has a seed."""
        return next((place for place in places if seed - place.shift in self.seed_set), None)


def together(grids: Sequence[Listing]) -> Iterator[tuple[Job, tuple[Task, ...]]]:
    """Every job of these grids once, in the first that has it, with the further tasks it is tested on in any: the
    experts of each mixture, then each case, seeds innermost.
    """
    alone = len(grids) == 1 and not grids[0].experts  # then nothing stands twice, and no case's id is needed
    names = dict.fromkeys(name for grid in grids for name in grid.by_case) if not alone else {}
    where = {name: [(grid, grid.by_case[name]) for grid in grids if name in grid.by_case] for name in names}
    for grid in grids:
        for places in (*grid.experts, *([place] for place in grid.own)):
            named = [(place, [(grid, [place])] if alone else where[place.case.id(0)]) for place in places]
            for seed in grid.seeds:
                for place, holders in named:
                    here = [had for holder, its in holders if (had := holder.has(its, seed + place.shift))]
                    if here[0] is place:
                        tests = here[0].tests if len(here) == 1 else dict.fromkeys(t for had in here for t in had.tests)
                        yield Job(place.case, seed + place.shift), tuple(tests)
