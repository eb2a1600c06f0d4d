"""How a step is run: as machine code or through torch.compile where that pays, else by PyTorch as it is written.

Which of them is a matter of the structure alone, never of the pack's width or of a clock: the same job gives the
same bits whatever it runs beside and however often it is run again.
"""

from __future__ import annotations

import logging

from torch import Tensor

from ..spans import span
from .cpp import Native, NoCompiler
from .inductor import Inductor, Uncompilable
from .ir import NotLowerable
from .step import Eager, Step, Tensors

log = logging.getLogger("lfombench")

# Prompts that a member meets. Machine code takes 1 to 4 s to make, and as written a prompt takes 10 to 100 us: it pays
# from a handful of jobs on. torch.compile takes 15 to 50 s.
PAYS = 16_000
PAYS_INDUCTOR = 10 * PAYS
# A straight line takes the C++ compiler up to minutes, loops 2 to 3 s. Short programs, tests above all, run as loops
# in the same time; long training does not.
PAYS_STRAIGHT = 500_000


def program(
    step: Step, job: Tensors, state: Tensors, key: Tensor, calls: int, *, as_written: bool = False
) -> Native | Inductor | Eager:
    """The step of a pack, to be called as (first, count, begin=0) -> records `steps rates jobs ...`, state updated.

    calls: how many steps a member will run, by and by. as_written: not compiled, however long they are.
    """
    if as_written:
        return Eager(step, job, state, key)
    met = step.prompts * calls
    reason = ""
    if met >= PAYS and key.device.type == "cpu":
        try:
            with span("compile"):
                return Native(step, job, state, key, straight=met >= PAYS_STRAIGHT)
        except (NotLowerable, NoCompiler) as error:
            reason = str(error).splitlines()[0]
    if met >= PAYS_INDUCTOR or (met >= PAYS and key.device.type != "cpu"):
        try:
            with span("compile"):
                return Inductor(step, job, state, key)
        except Uncompilable as error:
            reason = f"{reason}; {str(error).splitlines()[0]}"
    if reason:
        log.warning("runs as written, not compiled: %s", reason)
    return Eager(step, job, state, key)
