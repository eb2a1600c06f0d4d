"""How a step is run: as machine code where that pays, else by PyTorch as it is written.

Which of the two is a matter of the structure alone, never of the pack's width or of a clock: the same job gives the
same bits whatever it runs beside and however often it is run again.
"""

from __future__ import annotations

import logging

from torch import Tensor

from .atoms import NotLowerable
from .native import Native, NoCompiler
from .profile import span
from .step import Eager, Step, Tensors

log = logging.getLogger("lfombench")

# Prompts that a member meets. Compiling takes 1 to 4 s, and as written a prompt takes 10 to 100 us: it pays from a
# handful of jobs on.
PAYS = 16_000


def program(
    step: Step, job: Tensors, state: Tensors, key: Tensor, calls: int, *, as_written: bool = False
) -> Native | Eager:
    """The step of a pack, to be called as (first, count, begin=0) -> records `steps rates jobs ...`, state updated.

    calls: how many steps a member will run, by and by. as_written: not compiled, however long they are.
    """
    if as_written or step.prompts * calls < PAYS or key.device.type != "cpu":
        return Eager(step, job, state, key)
    try:
        with span("compile"):
            return Native(step, job, state, key)
    except (NotLowerable, NoCompiler) as error:
        log.warning("runs as written, not compiled: %s", str(error).splitlines()[0])
        return Eager(step, job, state, key)
