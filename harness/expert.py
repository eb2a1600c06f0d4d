"""An expert: a solver as a job of its own has trained it, as a part of a mixture."""

from __future__ import annotations

from dataclasses import dataclass

from lfombench.solvers import Solver
from lfombench.tasks import Task

from .protocol import Protocol


@dataclass(frozen=True, kw_only=True)
class Expert:
    """The job that trains it, but for the seed, which is the mixture's. task: None is the mixture's own."""

    solver: Solver
    task: Task | None
    protocol: Protocol
