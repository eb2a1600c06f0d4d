"""Extend a sweep: more seeds for those solvers that no board can tell apart yet, until each pair is separated,
equivalent, or the budget is spent.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lfombench.analysis.losses import outcomes
from lfombench.analysis.results import NoStore, Tables, sweeps
from lfombench.analysis.separation import Place, Standing, contests

from ..errors import SpecError, UserError, nearest
from ..spec.labels import label
from ..spec.protocol import Protocol
from ..spec.seeds import Key, first_seeds, key_of, with_seeds
from ..spec.sweep import Sweep
from .run import Summary, run

BEGIN = 3  # seeds that a sweep needs before a pair can be judged


@dataclass(frozen=True, kw_only=True)
class Goal:
    """When to stop: the error rate of all pairs called separated, and that of all called equivalent, each together; the
    margin in nat within which solvers count as equivalent; the seeds of any solver and the minutes that may be spent.

    depths: to decide at these only; all where empty. test: the label of a further test task to decide on instead of
    the training tasks.
    """

    alpha: float = 0.05
    margin: float = 0.01
    max_seeds: int = 64
    max_minutes: float = 20.0
    depths: Sequence[int] = ()
    test: str | None = None


Wanted = Mapping[tuple[Place, str], int]
Told = Callable[[Standing, Wanted], None]


def _silent(standing: Standing, wanted: Wanted) -> None:
    pass


def extend(sweep: Sweep, out: str, goal: Goal, told: Told = _silent, **options: Any) -> tuple[Standing, Summary]:
    """Run a sweep, and then more seeds of it, until the goal is reached; what is decided then, and the last run's end.

    told: is told before each round what is decided, and how many seeds each solver is to have next. options: those of
    `run`. Raises `UserError` where more seeds cannot decide anything.
    """
    _check(sweep, goal)
    begin, stop = time.monotonic(), options.pop("stop", lambda: False)

    def over() -> bool:
        return bool(stop()) or time.monotonic() - begin > 60 * goal.max_minutes

    seeds = {key: first_seeds(known, BEGIN) for key, known in _known(sweep, out).items()}
    while True:
        summary = run(with_seeds(sweep, seeds), out, stop=over, **options)
        standing = Standing(_contests(out, sweep.name, goal), goal.alpha, goal.margin)
        wanted = standing.wanted(goal.max_seeds)
        told(standing, wanted)
        grown: dict[Key, int] = {}
        for (place, solver), count in wanted.items():
            key = _case(seeds, place, solver)
            if count > len(seeds[key]):  # it is not where jobs of seeds that were asked for are missing
                grown[key] = max(count, grown.get(key, 0))
        if not grown or summary.failed or over():
            return standing, summary
        for key, count in grown.items():
            seeds[key] = first_seeds(seeds[key], count)


def _check(sweep: Sweep, goal: Goal) -> None:
    if any(part.name != sweep.name for part in sweep.parts):
        raise SpecError(
            f"{sweep.name} consists of sweeps: extend one of {', '.join(part.name for part in sweep.parts)}"
        )
    protocols: list[Protocol] = [protocol for grid in sweep.own_grids for protocol in grid.protocols]
    if all(protocol.data_seed is not None for protocol in protocols):
        raise SpecError(
            f"all seeds of {sweep.name} have the same prompts (data_seed), of which more seeds say nothing; a protocol "
            "without data_seed, such as rigorous, can be extended"
        )
    tests = {label(task) for grid in sweep.own_grids for task in grid.tests}
    if goal.test is not None and goal.test not in tests:
        raise SpecError(f"test: {sweep.name} is not tested on {goal.test!r}; {nearest(goal.test, tests)}")


def _known(sweep: Sweep, out: str) -> dict[Key, set[int]]:
    """The seeds of each case that the sweep asks for, or an extension of it that the store remembers."""
    seeds: dict[Key, set[int]] = {}
    for grid in sweep.own_grids:
        for case in grid.cases:
            if case.protocol.data_seed is None:
                seeds.setdefault(key_of(case), set()).update(grid.seeds)
    with contextlib.suppress(NoStore):
        for asked in (asked for manifest in sweeps(out, sweep.name) if manifest.extended for asked in manifest.asked):
            key = asked.task, asked.solver, asked.depth, asked.protocol
            if key in seeds:
                seeds[key].update(asked.seeds)
    return seeds


def _contests(out: str, name: str, goal: Goal) -> list[Any]:
    [manifest] = sweeps(out, name)
    tables = Tables(out)
    found = list(contests(tables, outcomes(tables, manifest), goal.depths, goal.test))
    if not found:
        raise UserError(
            f"no two methods of {name} meet{' at these depths' if goal.depths else ''}: nothing to separate"
        )
    return found


def _case(seeds: Mapping[Key, object], place: Place, solver: str) -> Key:
    """The case behind a solver at a place: of that depth, or the shallowest that passes it."""
    task, _, protocol, depth = place
    depths = [key[2] for key in seeds if key[:2] == (task, solver) and key[3] == protocol and key[2] >= depth]
    return task, solver, min(depths), protocol
