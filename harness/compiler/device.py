"""Lower a traced step to a kernel."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from .cuda import Cuda
from .kernel import Inputs, KernelProgram
from .looped import Looped
from .lower import Form, Layout, Lowering
from .registers import Registers
from .unrolled import TooLong

REGISTERS_LIMIT = 30_000  # expressions of a prompt; the assembler takes some 10 s for so many, and more for more

LARGEST = 99 * 1024  # bytes of shared memory that every device since 2020 has for a block


@dataclass(frozen=True)
class KernelLayout(Layout):
    """What a caller of a kernel must know. scratch: bytes of each block."""

    threads: int
    shared: int  # bytes of shared memory of each block


@dataclass(frozen=True)
class LoweredKernel:
    """The source of a kernel, and what launching it takes."""

    source: str
    layout: KernelLayout


def kernel(
    lowering: Lowering,
    form: Form,
    target: Cuda | None = None,
    *,
    lines: bool = False,
    limit: int = REGISTERS_LIMIT,
) -> LoweredKernel:
    """A step's kernel in a form, or looped where the unrolled one would have more than `limit` expressions of a prompt.

    lines: with the model's lines as comments. Raises NotLowerable.
    """
    prompts = lowering.step.prompts
    if form == "unrolled":
        with contextlib.suppress(TooLong):
            on = target or Cuda.of(prompts, form)
            found = _kernel(lowering, Registers(prompts, limit), on, lines=lines)
            if found.layout.shared <= LARGEST:
                return found
    return _kernel(lowering, Looped(prompts), target or Cuda.of(prompts, "looped"), lines=lines)


def _kernel(lowering: Lowering, builder: Looped, target: Cuda, *, lines: bool) -> LoweredKernel:
    inputs, records = lowering.built(builder)
    names = list(lowering.trace.state)
    changed = {inputs[len(lowering.trace.job) + names.index(name)] for name in lowering.trace.changed}
    given = Inputs(inputs, [memory for memory, _ in records], changed)
    once = not lowering.trace.state
    program = KernelProgram(builder, target, given, renew=lowering.step.renew, each=once, lines=lines)
    source = target.kernel(program.functions, len(inputs) + len(records) + 2, program.text())
    sizes = program.size, program.padded, target.block, program.shared_size
    return LoweredKernel(source, KernelLayout(lowering.records(records), *sizes))
