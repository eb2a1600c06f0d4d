"""A step as a kernel on a device: made once for all packs of the same program, and launched on a pack's tensors."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Hashable
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from . import known
from .device import KernelLayout, kernel
from .known import Shapes, shapes
from .lower import Form
from .native import lowering_of
from .step import Step, Tensors

LAUNCH = 500  # steps at most, so that no launch takes long
AGAIN = 100  # the same where a launch need not draw its prompts anew: others wait until a launch ends


@runtime_checkable
class Function(Protocol):
    """A kernel that a driver has loaded."""

    @property
    def blocks(self) -> int:
        """How many blocks a launch may have at once; what is more waits."""

    def launch(self, grid: int, arguments: ctypes.Structure) -> None:
        """Start it on so many blocks, after what the current stream has to do before."""


@runtime_checkable
class Driver(Hashable, Protocol):
    """What loads kernels and launches them."""

    def load(self, source: str, layout: KernelLayout) -> Function:
        """The kernel of a source. Raises NoCompiler."""


class OnDevice:
    """A step as a kernel: each call launches it, and returns before it has run."""

    name = "kernel"

    def __init__(
        self,
        step: Step,
        job: Tensors,
        state: Tensors,
        key: Tensor,
        form: Form = "unrolled",
        driver: Driver | None = None,
    ) -> None:
        """Raises NotLowerable or NoCompiler."""
        self.step, self.job, self.state, self.key = step, job, state, key
        driver = driver or _driver(key.device.index or 0)
        self.program = program(step, shapes(job, 1), shapes(state, 2), form, driver)

    def __call__(self, first: int, count: int, begin: int = 0) -> Tensors:
        """Run steps first .. first + count - 1 on the prompts from `begin` on; update the state in place.

        Returns the records, `steps trials jobs ...`.
        """
        function, layout, device = self.program.function, self.program.layout, self.key.device
        jobs, trials = len(self.key), len(next(iter(self.state.values()))) if self.state else 1
        records = {
            name: torch.empty(layout.shape(name, trials, jobs, count), dtype=getattr(torch, dtype), device=device)
            for name, (dtype, _) in layout.records.items()
        }
        grid = min(jobs * trials, function.blocks)
        scratch = torch.empty(grid * layout.scratch, dtype=torch.uint8, device=device)
        inputs = [*self.job.values(), *self.state.values()]
        assert all(x.is_contiguous() and x.device == device for x in inputs)
        most = LAUNCH if self.step.renew is None else min(LAUNCH, AGAIN)
        for done in range(0, count, most):
            tensors = [*inputs, *(x[done:] for x in records.values()), scratch, self.key]
            given = arguments(len(tensors))()
            given.tensors[:] = [x.data_ptr() for x in tensors]
            given.numbers[:] = [jobs, trials, first + done, min(most, count - done), begin]
            function.launch(grid, given)
        return records


@functools.cache
def arguments(tensors: int) -> type[Any]:
    """The type of a kernel's arguments, as its source declares it."""
    fields = [("tensors", ctypes.c_void_p * tensors), ("numbers", ctypes.c_int64 * 5)]
    return type("Arguments", (ctypes.Structure,), {"_fields_": fields})


@dataclass(frozen=True)
class Program:
    """A loaded kernel, and what a caller must know to allocate its arguments."""

    function: Function
    layout: KernelLayout


@functools.lru_cache(maxsize=256)
def program(step: Step, job: Shapes, state: Shapes, form: Form, driver: Driver) -> Program:
    """A step's kernel in a form, or looped where the unrolled one would be too long. Raises NotLowerable, NoCompiler.

    One that the cache knows by what it is made of is not traced again.
    """
    found = known.read(f"kernel {form}", step, job, state)
    if found:
        layout = KernelLayout.of(found["layout"])
        return Program(driver.load(found["source"], layout), layout)
    lowered = kernel(lowering_of(step, job, state), form)
    known.keep(f"kernel {form}", step, job, state, {"source": lowered.source, "layout": asdict(lowered.layout)})
    return Program(driver.load(lowered.source, lowered.layout), lowered.layout)


@functools.cache
def _driver(index: int) -> Driver:
    from .driver import Cuda

    return Cuda(index)
