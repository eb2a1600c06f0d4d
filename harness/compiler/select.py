"""Choose how a step runs: as machine code or through torch.compile where compilation pays off, else eagerly.

The choice depends on the structure of the step and the length of the run alone, never on the pack's width or on
measured times: a job gives the same bits whatever jobs share its pack, and each time it is run.
"""

from __future__ import annotations

import logging
from typing import Literal

from torch import Tensor

from ..spans import span
from .cpp import Native, NoCompiler
from .inductor import Inductor, Uncompilable
from .ir import NotLowerable
from .step import Eager, Step, Tensors

log = logging.getLogger("lfombench")

# Thresholds in prompts per member over the whole run. The C++ compiler takes 1 to 4 s, and an eager step 10 to 100 us
# per prompt: compilation pays off from a handful of jobs on. torch.compile takes 15 to 50 s.
PAYS = 16_000
PAYS_INDUCTOR = 10 * PAYS
# The C++ compiler takes up to minutes for unrolled code, 2 to 3 s for loops. For short runs, mostly tests, looped code
# is as fast; for long training it is slower.
PAYS_UNROLLED = 500_000


Engine = Literal["auto", "eager", "unrolled", "looped", "inductor"]


def program(
    step: Step, job: Tensors, state: Tensors, key: Tensor, calls: int, engine: Engine = "auto"
) -> Native | Inductor | Eager:
    """The program of a pack's step; a call (first, count, begin=0) returns records `steps trials jobs ...` and updates
    the state in place.

    calls: how many steps a member will run in total. engine: how to run it, by name; raises NotLowerable, NoCompiler or
    Uncompilable where the named one cannot. "auto" chooses what pays off and always finds one.
    """
    match engine:
        case "eager":
            return Eager(step, job, state, key)
        case "unrolled" | "looped":
            return Native(step, job, state, key, unrolled=engine == "unrolled")
        case "inductor":
            return Inductor(step, job, state, key)
    prompts = step.prompts * calls
    reason = ""
    if prompts >= PAYS and key.device.type == "cpu":
        try:
            with span("compile"):
                return Native(step, job, state, key, unrolled=prompts >= PAYS_UNROLLED)
        except (NotLowerable, NoCompiler) as error:
            reason = str(error).splitlines()[0]
    if prompts >= PAYS_INDUCTOR or (prompts >= PAYS and key.device.type != "cpu"):
        try:
            with span("compile"):
                return Inductor(step, job, state, key)
        except Uncompilable as error:
            reason = f"{reason}; {str(error).splitlines()[0]}"
    if reason:
        log.warning("runs eagerly, not compiled: %s", reason)
    return Eager(step, job, state, key)
