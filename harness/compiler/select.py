"""Choose how a step runs: as machine code, or through torch.compile, where that saves more than it costs; else eagerly.

A run of a few prompts tells what a step consists of; only where machine code pays by these counts is it traced.
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
from .census import Census, census
from .cpp import NoCompiler
from .inductor import Inductor, Uncompilable
from .ir import NotLowerable
from .known import shapes
from .lower import Counts, Form
from .native import Native, counts
from .on_device import OnDevice
from .step import Eager, Step, Tensors

log = logging.getLogger("lfombench")

SEEDS, MEMBERS = 5, 16  # usual seeds of a case, members of a small pack
LEAST_INDUCTOR = 160_000  # prompts of a member over the whole run, for torch.compile, which takes 15 to 50 s
WIDE = 500  # members of a pack on a device
DRAW, DRAWN = 300, 260  # operations that draw a step's variates as PyTorch's, and bytes of their results for a variate
IN_CACHE = 16e6  # bytes of a result; of larger ones PyTorch gives the memory back, and takes it again

Engine = Literal["auto", "eager", "unrolled", "looped", "inductor"]
Program = Native | OnDevice | Inductor | Eager


def program(step: Step, job: Tensors, state: Tensors, key: Tensor, calls: int, engine: Engine = "auto") -> Program:
    """The program of a pack's step; a call (first, count, begin=0) returns records `steps trials jobs ...` and updates
    the state in place.

    calls: how many steps a member will run in total. engine: how to run it, by name; raises NotLowerable, NoCompiler or
    Uncompilable where the named one cannot. "auto" chooses what pays off and always finds one.
    """
    match engine:
        case "eager":
            return Eager(step, job, state, key)
        case "unrolled" | "looped":
            return _compiled(step, job, state, key, engine)
        case "inductor":
            return Inductor(step, job, state, key)
    try:
        with span("compile"):
            found, draws = census(step, job, state), draws_of(step, state, calls)
            if key.device.type == "cpu" and pays(found, step, calls, draws):
                form = quickest(counts(step, shapes(job, 1), shapes(state, 2)), step, calls)
                return _compiled(step, job, state, key, form)
            if key.device.type != "cpu" and pays_on_device(found, step, calls, draws):
                return _compiled(step, job, state, key, "unrolled")
        return Eager(step, job, state, key)
    except (NotLowerable, NoCompiler) as error:
        reason = str(error).splitlines()[0]
    code = "machine code" if key.device.type == "cpu" else "a kernel"
    if step.prompts * calls >= LEAST_INDUCTOR:
        try:
            with span("compile"):
                compiled = Inductor(step, job, state, key)
            say(f"runs through torch.compile, not as {code}: {reason}")
            return compiled
        except Uncompilable as error:
            reason = f"{reason}; {str(error).splitlines()[0]}"
    say(f"runs eagerly, not compiled: {reason}")
    return Eager(step, job, state, key)


def _compiled(step: Step, job: Tensors, state: Tensors, key: Tensor, form: Form) -> Native | OnDevice:
    """The step as machine code of the processor that its tensors are on. Raises NotLowerable or NoCompiler."""
    on = Native if key.device.type == "cpu" else OnDevice
    return on(step, job, state, key, form)


@functools.cache
def say(warning: str) -> None:
    """Log a warning, once in this process."""
    log.warning("%s", warning)


def draws_of(step: Step, state: Tensors, calls: int) -> float:
    """How many of a member's calls draw new prompts: of a test, which has no state, each."""
    return calls if not state else 1 if step.renew is None else calls / step.renew


# What follows is in seconds on a nominal machine: one core of a server of 2024, where it was measured
# (`benchmarks/ready.py`). It says what is best, not how long it takes elsewhere, and is the same everywhere so that all
# machines choose alike.


def pays(found: Census, step: Step, calls: int, draws: float) -> bool:
    """Whether machine code is done sooner than the step as it is written, for as many members as a case has seeds."""
    return native_seconds(found, step, calls) < eager_seconds(found, step, calls, draws)


def eager_seconds(found: Census, step: Step, calls: int, draws: float) -> float:
    """So many calls by PyTorch, some of which draw prompts."""
    prompts = SEEDS * step.prompts
    sizes = [(prompts * numbers * step.dtype.itemsize, times) for numbers, times in found.results.items()]
    moved = sum(times * size * (1.6e-10 if size > IN_CACHE else 3.5e-11) for size, times in sizes)
    return calls * (found.operations * 6.5e-6 + moved) + draws * prompts * found.variates * 2.1e-8


def native_seconds(found: Census, step: Step, calls: int) -> float:
    """The trace, the C++ compiler, and so many calls of loops."""
    return 0.22 + found.operations * 6.5e-4 + calls * SEEDS * step.prompts * _looped(found, step)


def pays_on_device(found: Census, step: Step, calls: int, draws: float) -> bool:
    """Whether a kernel is done sooner than the step as it is written, for a pack as wide as devices are given."""
    operations = calls * found.operations + draws * DRAW
    numbers = calls * found.numbers * step.dtype.itemsize + draws * found.variates * DRAWN
    return 1.0 + found.operations * 6e-3 < operations * 1e-5 + numbers * step.prompts * WIDE * 1e-12


def quickest(found: Counts, step: Step, calls: int) -> Form:
    """The form that a small pack is done with sooner."""
    costs = seconds(found, step, calls)
    return "unrolled" if costs["unrolled"] < costs["looped"] else "looped"


def seconds(found: Counts, step: Step, calls: int) -> dict[Form, float]:
    """What each form of a traced step takes in the C++ compiler, and for so many calls of a small pack."""
    times: dict[Form, float] = {"unrolled": math.inf}
    prompts = calls * MEMBERS * step.prompts
    times["looped"] = 0.18 + found.operations * 2.5e-4 + prompts * _looped(found, step)
    if found.statements is not None:
        prompt = (4e-9 + found.statements * 5.5e-12) * _wide(step)
        times["unrolled"] = 0.05 + found.statements * 1.5e-4 + prompts * prompt
    return times


def _looped(found: Census | Counts, step: Step) -> float:
    """A prompt of a member in the looped form."""
    return (found.operations * 3e-11 + found.numbers * 1.05e-11) * _wide(step)


def _wide(step: Step) -> float:
    return step.dtype.itemsize / 4
