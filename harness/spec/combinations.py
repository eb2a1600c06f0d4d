"""A task, a solver and a protocol together: possible, or not, with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lfombench.solvers import Solver
from lfombench.tasks import Task

from ..errors import SpecError
from .job import Case
from .labels import label
from .protocol import Protocol


@dataclass(frozen=True)
class Skipped:
    """An impossible combination, with the reason."""

    task: Task
    solver: Solver
    protocol: Protocol
    reason: str


def combined(task: Task, solver: Solver, protocol: Protocol, tests: Sequence[Task] = ()) -> Case:
    """The case of a task, solver and protocol; SpecError where they do not fit together, or do not fit a test task."""
    try:
        case = Case(task=task, solver=solver, protocol=protocol, validated=True)
        for k in range(len(case.trials)):
            case.tried(k)
    except (SpecError, ValueError) as error:
        raise SpecError(f"{title(solver)} on {label(task)}: {error}") from None
    for test in tests:
        if solver.context and test.n != task.n:
            raise SpecError(
                f"{title(solver)} has parameters for each of n = {task.n} examples and cannot be tested on "
                f"{label(test)}, which has n = {test.n}"
            )
        try:
            Case(task=test, solver=solver, protocol=protocol, validated=True)
        except (SpecError, ValueError) as error:
            raise SpecError(f"{title(solver)} on {label(test)}: {error}") from None
    return case


def title(part: Any) -> str:
    """The label of a task, solver or protocol; a solver's with its depth."""
    return f"{label(part)} of depth {part.depth}" if isinstance(part, Solver) else label(part)
