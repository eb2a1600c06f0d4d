"""A step as machine code: made once for all packs of the same program, and called on a pack's tensors."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from . import cache, cpp
from .cpp import NoCompiler
from .lower import Counts, Form, Layout, Lowering, lowering
from .step import Step, Tensors
from .target import host
from .trace import Shapes


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


def shapes(tensors: Tensors, leading: int) -> Shapes:
    """The shapes of one member's tensors: those of the pack without so many leading axes."""
    return tuple((name, tuple(x.shape[leading:]), x.dtype) for name, x in tensors.items())


@functools.lru_cache(maxsize=256)
def program(step: Step, job: Shapes, state: Shapes, form: Form) -> Program:
    """A step's program in a form, or looped where the unrolled one would be too long. Raises NotLowerable, NoCompiler.

    One that the cache knows by what it is made of is not traced again.
    """
    known = _known(step, job, state, form)
    if known and (function := cpp.load(known["library"])):
        return Program(function, Layout.of(known["layout"]))
    lowered = _lowering(step, job, state).lowered(form)
    library = cpp.compile(lowered.source, lowered.shared)
    _keep(step, job, state, form, {"library": library, "layout": asdict(lowered.layout)})
    function = cpp.load(library)
    if function is None:
        raise NoCompiler("a compiled program is gone from the cache")
    return Program(function, lowered.layout)


@functools.lru_cache(maxsize=256)
def counts(step: Step, job: Shapes, state: Shapes) -> Counts:
    """What a step consists of. Raises NotLowerable."""
    known = _known(step, job, state, "counts")
    if known:
        return Counts(**known)
    found = _lowering(step, job, state).counts
    _keep(step, job, state, "counts", asdict(found))
    return found


@functools.lru_cache(maxsize=4)
def _lowering(step: Step, job: Shapes, state: Shapes) -> Lowering:
    return lowering(step, job, state)


def _known(step: Step, job: Shapes, state: Shapes, kind: str) -> dict[str, Any] | None:
    """What the cache knows of a step that can be known again."""
    content = cache.read(_entry(step, job, state, kind)) if step.identity else None
    return json.loads(content) if content else None


def _keep(step: Step, job: Shapes, state: Shapes, kind: str, known: dict[str, Any]) -> None:
    if step.identity:
        with contextlib.suppress(OSError):  # then it is made again the next time
            cache.write(_entry(step, job, state, kind), json.dumps(known).encode())


def _entry(step: Step, job: Shapes, state: Shapes, kind: str) -> str:
    """The name of the cache's entry for what a step is made of."""
    made_of = [step.identity, step.prompts, step.renew, step.dtype, job, state, host(), torch.__version__]
    text = "\n".join([kind, cpp.toolchain(), *map(repr, made_of)])
    return f"{hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}.json"
