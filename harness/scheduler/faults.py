"""The failure policy: what can go wrong with a pack on a worker, and what is done about it.

Nothing is done about NaN: it is an outcome, and comes again. An exception comes again too, so its pack is split at once
until the job that raises it stands alone. What kills a worker may be the pack's doing or not: it is tried again, then
split. A node that dies is never the pack's fault.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch

from ..errors import UserError
from ..store.outcome import Outcome
from ..training import execute
from ..training.checkpoint import Checkpoint
from ..training.pack import WorkOrder
from .devices import device

Kind = Literal["exception", "memory", "deadline", "worker", "node"]
EVERY = 15.0  # seconds between checkpoints of a pack


@dataclass(frozen=True)
class Policy:
    """How often a pack is tried before it is split, or given up if it is one job; seconds before the second try, twice
    as many before each further one.
    """

    together: int
    alone: int
    backoff: float


POLICY: dict[Kind, Policy] = {
    "exception": Policy(1, 1, 0.0),
    "memory": Policy(1, 2, 5.0),  # alone it may be others' memory
    "deadline": Policy(1, 2, 1.0),
    "worker": Policy(2, 3, 1.0),
    "node": Policy(8, 8, 2.0),
}


@dataclass(frozen=True)
class Fault:
    """Why a pack has no outcome."""

    kind: Kind
    reason: str  # a traceback, or in words


@dataclass(frozen=True)
class Paused:
    """A pack that stopped where it can go on, as it was asked to."""


Event = Checkpoint | Outcome | Fault | Paused


def attempt(order: WorkOrder, paused: Callable[[], bool] = lambda: False, every: float = EVERY) -> Iterator[Event]:
    """Run a pack in this process: checkpoints on its way, at least so many seconds apart, and how it ends."""
    torch.set_num_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = False  # ten bits of mantissa are a protocol's business, not a default
    stages, last = execute.stages(order, device()), time.monotonic()
    while True:
        try:
            stage = next(stages)
        except StopIteration as end:
            yield end.value
            return
        except (Exception, SystemExit) as error:
            yield fault(error)
            return
        if paused():
            yield stage()
            yield Paused()
            return
        if time.monotonic() - last > every:
            yield stage()
            last = time.monotonic()


def fault(error: BaseException) -> Fault:
    """The fault that an exception of a pack amounts to."""
    text = str(error) if isinstance(error, UserError) else "".join(traceback.format_exception(error))
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error):
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return Fault("memory", text)
    return Fault("exception", text)
