"""More seeds for some of a sweep's cases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from lfombench.tasks import Task

from .job import Case
from .protocol import Protocol
from .sweep import Sweep

Key = tuple[str, str, int, str]  # labels of task and solver, depth, label of the protocol


def key_of(case: Case) -> Key:
    """What tells a case from the others of a sweep."""
    names = case.names
    return names["task"], names["solver"], names["depth"], names["protocol"]


def with_seeds(sweep: Sweep, seeds: Mapping[Key, Sequence[int]]) -> Sweep:
    """The sweep with these seeds of these cases besides its own, as grids of the same name."""
    grids = sweep.own_grids
    further: list[Sweep] = []
    for grid in grids:
        groups: dict[tuple[Task, Protocol, tuple[int, ...]], list[Case]] = {}
        for case in grid.cases:
            new = tuple(seed for seed in seeds.get(key_of(case), ()) if seed not in grid.seeds)
            if new:
                groups.setdefault((case.task, case.protocol, new), []).append(case)
        further += [
            replace(
                grid,
                tasks=[task],
                solvers=[case.solver for case in cases],
                protocols=[protocol],
                seeds=list(new),
                axis=None,
                split=(),
                named={},
                crossover=(),
            )
            for (task, protocol, new), cases in groups.items()
        ]
    return Sweep(name=sweep.name, about=sweep.about, parts=[*grids, *further], extended=True)


def first_seeds(known: Iterable[int], count: int) -> list[int]:
    """So many seeds: those that are known, in ascending order, then the numbers that follow the largest."""
    seeds = sorted(set(known))
    after = seeds[-1] + 1 if seeds else 0
    return [*seeds, *range(after, after + max(0, count - len(seeds)))]
