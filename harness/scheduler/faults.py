"""The failure policy: what can go wrong with a pack on a worker, and what is done about it.

Nothing is done about NaN: it is an outcome, and would come again. An exception would come again too, so its pack is
split at once until the job that raises it is alone. When a worker dies, its pack may be the cause or not: it is tried
again, then split, and so it is where a GPU fails under it. The death of a node is never the pack's fault.
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

Kind = Literal["exception", "memory", "deadline", "worker", "node", "device", "code"]


@dataclass(frozen=True)
class Policy:
    """How often a pack is tried: `together` times before it is split, or, if it is one job, `alone` times before it is
    given up. backoff: seconds before the second try, doubled before each further one.
    """

    together: int
    alone: int
    backoff: float


POLICY: dict[Kind, Policy] = {
    "exception": Policy(1, 1, 0.0),
    "memory": Policy(1, 2, 5.0),  # a job alone may lack memory that other processes use
    "deadline": Policy(1, 2, 1.0),
    "worker": Policy(2, 3, 1.0),
    "node": Policy(8, 8, 2.0),
    "code": Policy(3, 3, 1.0),  # of its worker, which is another from now on
    "device": Policy(2, 3, 1.0),  # the pack may be the cause, or another that ran there
}


@dataclass(frozen=True)
class Fault:
    """What went wrong with a pack, which has no outcome."""

    kind: Kind
    reason: str  # a traceback or a message


@dataclass(frozen=True)
class Paused:
    """A pack has stopped, as it was asked to, at a checkpoint from which it can be resumed."""


Event = Checkpoint | Outcome | Fault | Paused


def run_pack(
    order: WorkOrder, paused: Callable[[], bool] = lambda: False, on: torch.device | None = None
) -> Iterator[Event]:
    """Run a pack in this process; yield checkpoints as often as the order says, then the event that ends it.

    on: a device other than the one that packs run on here.
    """
    torch.set_num_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = False  # only a protocol may choose a mantissa of ten bits
    stages, last = execute.stages(order, on or device()), time.monotonic()
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
        if time.monotonic() - last > order.checkpoint_every:
            yield stage()
            last = time.monotonic()


def fault(error: BaseException) -> Fault:
    """The fault that an exception in a pack amounts to: of kind memory, device or exception."""
    text = str(error) if isinstance(error, UserError) else "".join(traceback.format_exception(error))
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error):
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return Fault("memory", text)
    if isinstance(error, torch.AcceleratorError):  # after it, the process cannot use the device any more
        return Fault("device", text)
    return Fault("exception", text)
