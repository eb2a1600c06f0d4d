"""Refine a sweep: add tasks along its axis where the ranking of two of its solvers changes (a crossover)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from lfombench.tasks import Task

from .labels import label
from .sweep import Sweep

ROUNDS = 3  # of refinement; each halves the interval that contains a crossing
DIGITS = 4  # significant digits of a float half-way between two

Brackets = Mapping[str, Sequence[tuple[str, str]]]  # by sweep: labels of neighbouring tasks with a crossing between


def refined(sweep: Sweep, brackets: Brackets) -> Sweep | None:
    """The sweep with a task added in the middle of each bracket, also in its parts; None where no task is new."""
    if sweep.parts:
        parts = [refined(part, brackets) for part in sweep.parts]
        if not any(parts):
            return None
        return replace(sweep, parts=[new or old for new, old in zip(parts, sweep.parts, strict=True)])
    tasks = {label(task): task for task in sweep.tasks}
    middles = [
        middle(tasks[low], tasks[high])
        for low, high in brackets.get(sweep.name, ())
        if low in tasks and high in tasks  # both are of this grid
    ]
    new = {task: None for task in middles if task is not None and task not in tasks.values()}
    return replace(sweep, tasks=[*sweep.tasks, *new]) if new else None


def middle(low: Task, high: Task) -> Task | None:
    """The task half-way between two that differ only in numbers; None where there is none, as between n = 5 and 6."""
    if type(low) is not type(high):
        return None
    changed: dict[str, Any] = {}
    for f in fields(low):
        a, b = getattr(low, f.name), getattr(high, f.name)
        if a != b:
            mean = _middle(a, b)
            if mean is None or mean in (a, b):
                return None
            changed[f.name] = mean
    if not changed:
        return None
    task = replace(low, **changed)
    try:
        task.check()
    except ValueError:  # a teacher of 1.5 entries, say
        return None
    return task


def _middle(a: Any, b: Any) -> Any:
    """The geometric mean of numbers more than a factor of 2 apart, else the arithmetic mean; None where undefined."""
    if isinstance(a, tuple) and isinstance(b, tuple) and len(a) == len(b):
        means = tuple(x if x == y else _middle(x, y) for x, y in zip(a, b, strict=True))
        return None if None in means else means
    if type(a) is not type(b) or not isinstance(a, int | float) or isinstance(a, bool):
        return None
    mean = math.sqrt(a * b) if min(a, b) > 0 and max(a, b) > 2 * min(a, b) else (a + b) / 2
    return round(mean) if isinstance(a, int) else float(f"{mean:.{DIGITS}g}")
