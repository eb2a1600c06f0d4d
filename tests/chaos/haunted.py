"""A solver that misbehaves for some values of a float: always, or while a file says so."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from lfombench.solvers import LinearTransformer

GHOSTS = Path(__file__).parent / "ghosts"  # where files say what is to happen
RAISES, NAN, LOOPS, ALLOCATES, DIES = 1.0, 2.0, 3.0, 4.0, 5.0
FILES = {LOOPS: "loops", ALLOCATES: "allocates", DIES: "dies"}


@dataclass(frozen=True, kw_only=True)
class Haunted(LinearTransformer):
    """ghost: what it does; 0 for nothing. Floats are data, so good jobs and bad share a pack."""

    ghost: float = 0.0

    def iterates(self, params, problem):
        """Those of a linear transformer, unless a job of the pack is haunted."""
        while (GHOSTS / "holds").exists():  # all wait
            time.sleep(0.05)
        ghosts = set(torch.as_tensor(self.ghost).flatten().tolist())
        if RAISES in ghosts:
            raise ZeroDivisionError("as ordered")
        for ghost, name in FILES.items():
            if ghost in ghosts and (GHOSTS / name).exists():
                _misbehave(ghost)
        spoilt = torch.as_tensor(self.ghost == NAN) if isinstance(self.ghost, float) else self.ghost == NAN
        for w in super().iterates(params, problem):
            yield torch.where(spoilt, torch.nan, w)


def _misbehave(ghost: float) -> None:
    while ghost == LOOPS:
        time.sleep(0.01)
    if ghost == ALLOCATES:
        torch.empty(1 << 46, dtype=torch.float64)
    if ghost == DIES:
        os.kill(os.getpid(), signal.SIGKILL)
