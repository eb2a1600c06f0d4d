"""An expert: a solver as a job of its own has trained it, as a part of a mixture."""

from __future__ import annotations

from dataclasses import dataclass

from lfombench.solvers import Solver
from lfombench.tasks import Task

from .protocol import Protocol

MOST_APART = 1_000_000_000


@dataclass(frozen=True, kw_only=True)
class Expert:
    """The job that trains it, but for the seed, which is the mixture's.

    task: None is the mixture's own. protocol: without a data seed, the mixture's, if it has one. apart: by what its
    seed is more than the mixture's; 0 shares the rotation.
    """

    solver: Solver
    task: Task | None
    protocol: Protocol
    apart: int = 0
