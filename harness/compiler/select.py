"""Choose how a step runs: as machine code, or through torch.compile, where that saves more than it costs; else eagerly.

The choice rests on what the step consists of and on how many prompts a member meets, never on the pack's width, on
measured times or on the machine: a job gives the same bits whatever jobs share its pack, and each time it is run.
"""

from __future__ import annotations

import functools
import logging
import math
from typing import Literal

from torch import Tensor

from ..spans import span
from .cpp import NoCompiler
from .inductor import Inductor, Uncompilable
from .ir import NotLowerable
from .lower import Counts, Form
from .native import Native, counts, shapes
from .step import Eager, Step, Tensors

log = logging.getLogger("lfombench")

LEAST = 4_000  # prompts per member over the whole run, at d = 5; for fewer, a trace would cost more than the run
SMALL = 50  # numbers that describe a job at d = 5
SEEDS, MEMBERS = 5, 16  # usual seeds of a case, members of a small pack
LEAST_INDUCTOR = 160_000  # for torch.compile, which takes 15 to 50 s

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
            return Native(step, job, state, key, engine)
        case "inductor":
            return Inductor(step, job, state, key)
    prompts = step.prompts * calls
    numbers = sum(math.prod(shape) for _, shape, _ in (*shapes(job, 1), *shapes(state, 2)))  # of a member
    reason = ""
    if prompts * max(1.0, numbers / SMALL) >= LEAST and key.device.type == "cpu":
        try:
            with span("compile"):
                found = counts(step, shapes(job, 1), shapes(state, 2))
                form = cheapest(found, step, calls, draws_of(step, state, calls))
                return Native(step, job, state, key, form) if form != "eager" else Eager(step, job, state, key)
        except (NotLowerable, NoCompiler) as error:
            reason = str(error).splitlines()[0]
    if prompts >= LEAST_INDUCTOR or (prompts >= LEAST and key.device.type != "cpu"):
        try:
            with span("compile"):
                compiled = Inductor(step, job, state, key)
            if reason:
                say(f"runs through torch.compile, not as machine code: {reason}")
            return compiled
        except Uncompilable as error:
            reason = f"{reason}; {str(error).splitlines()[0]}"
    if reason:
        say(f"runs eagerly, not compiled: {reason}")
    return Eager(step, job, state, key)


@functools.cache
def say(warning: str) -> None:
    """Log a warning, once in this process."""
    log.warning("%s", warning)


def draws_of(step: Step, state: Tensors, calls: int) -> float:
    """How many of a member's calls draw new prompts: of a test, which has no state, each."""
    return calls if not state else 1 if step.renew is None else calls / step.renew


def cheapest(found: Counts, step: Step, calls: int, draws: float) -> Form | Literal["eager"]:
    """How a step runs in the shortest time, until it is ready and then for so many calls, some of which draw prompts.

    Machine code has to pay for itself with as many members as a case has seeds, its unrolled form with a small pack.
    """
    costs = seconds(found, step, calls, draws, SEEDS)
    if costs["eager"] < costs["looped"]:
        return "eager"
    costs = seconds(found, step, calls, draws, MEMBERS)
    return "unrolled" if costs["unrolled"] < costs["looped"] else "looped"


def seconds(found: Counts, step: Step, calls: int, draws: float, members: int) -> dict[Form | Literal["eager"], float]:
    """What each form takes until it is ready, once traced, and for so many calls, on a nominal machine.

    The figures were measured on one core of a server of 2024 (`benchmarks/ready.py`). They say which form is best, not
    how long it takes elsewhere, and are the same everywhere so that all machines choose alike.
    """
    prompts, wide = members * step.prompts, step.dtype.itemsize / 4
    eager = calls * (found.operations * 6.5e-6 + prompts * found.numbers * 4.5e-10 * wide)
    eager += draws * prompts * found.variates * 2.1e-8
    looped = calls * prompts * (found.operations * 3e-11 + found.numbers * 1.05e-11) * wide
    times: dict[Form | Literal["eager"], float] = {
        "eager": eager,
        "looped": 0.2 + found.operations * 9e-4 + looped,
        "unrolled": math.inf,
    }
    if found.statements is not None:
        unrolled = calls * prompts * (4e-9 + found.statements * 5.5e-12) * wide
        times["unrolled"] = 0.1 + found.statements * 4.2e-4 + unrolled
    return times
