"""A step as machine code: made once for all packs of the same program, and called on a pack's tensors."""

from __future__ import annotations

import ctypes
import functools
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from . import cpp, known
from .known import Shapes, shapes
from .lower import Counts, Form, Layout, Lowering, lowering
from .step import Step, Tensors


class Native:
    """A step as machine code: one call runs all jobs, trials and steps without returning to Python."""

    name = "compiled"

    def __init__(self, step: Step, job: Tensors, state: Tensors, key: Tensor, form: Form) -> None:
        """Raises NotLowerable or NoCompiler."""
        self.step, self.job, self.state, self.key = step, job, state, key
        self.program = program(step, shapes(job, 1), shapes(state, 2), form)

    def __call__(self, first: int, count: int, begin: int = 0) -> Tensors:
        """Run steps first .. first + count - 1 on the prompts from `begin` on; update the state in place.

        Returns the records, `steps trials jobs ...`.
        """
        layout = self.program.layout
        jobs, trials = len(self.key), len(next(iter(self.state.values()))) if self.state else 1
        records = {
            name: torch.empty(layout.shape(name, trials, jobs, count), dtype=getattr(torch, dtype))
            for name, (dtype, _) in layout.records.items()
        }
        scratch = torch.empty(layout.scratch + 64, dtype=torch.uint8)
        tensors = [*self.job.values(), *self.state.values(), *records.values(), scratch, self.key]
        assert all(x.is_contiguous() and x.device.type == "cpu" for x in tensors)
        pointers = (ctypes.c_void_p * len(tensors))(*(x.data_ptr() for x in tensors))
        self.program.function(pointers, (ctypes.c_int64 * 5)(jobs, trials, first, count, begin))
        return records


@dataclass(frozen=True)
class Program:
    """A compiled step: its function, and what a caller must know to allocate its arguments."""

    function: ctypes._CFuncPtr
    layout: Layout


@functools.lru_cache(maxsize=256)
def program(step: Step, job: Shapes, state: Shapes, form: Form) -> Program:
    """A step's program in a form, or looped where the unrolled one would be too long. Raises NotLowerable, NoCompiler.

    One that the cache knows by what it is made of is not traced again.
    """
    kind = f"{form} {cpp.toolchain()}"
    found = known.read(kind, step, job, state)
    if found and (function := cpp.load(found["library"])):
        return Program(function, Layout.of(found["layout"]))
    lowered = lowering_of(step, job, state).lowered(form)
    library, function = cpp.ready(lowered.source, lowered.shared)
    known.keep(kind, step, job, state, {"library": library, "layout": asdict(lowered.layout)})
    return Program(function, lowered.layout)


@functools.lru_cache(maxsize=256)
def counts(step: Step, job: Shapes, state: Shapes) -> Counts:
    """What a step consists of. Raises NotLowerable."""
    if found := known.read("counts", step, job, state):
        return Counts(**found)
    counted = lowering_of(step, job, state).counts
    known.keep("counts", step, job, state, asdict(counted))
    return counted


@functools.lru_cache(maxsize=4)
def lowering_of(step: Step, job: Shapes, state: Shapes) -> Lowering:
    """A step's lowering, of the last few. Raises NotLowerable."""
    return lowering(step, job, state)
