"""Lower a step, which is written once in tensors, to one C++ loop.

A step is small: vectors in R^d, matrices, a few layers, the same for every prompt. So it is traced for one member, and
a tile of prompts passes through all of its operations, forward and backward, before the next tile does: intermediate
results stay in registers (`unrolled.py`) or, where there are too many of them, in the cache (`looped.py`). Members
share nothing, so a member's numbers do not depend, to the bit, on the other members of its pack.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node

from .emitter import Emitter
from .ir import CPP_TYPES, MEMBER, PROMPTS, Array, NotLowerable, Operand
from .looped import LoopedEmitter
from .ops import CONSTANT, POINTWISE, RULES
from .ops_views import VIEWS
from .step import Step, Tensors
from .streams import UNIFORMS
from .trace import Shapes, trace
from .unrolled import TooLong, UnrolledEmitter

PRELUDE = Path(__file__).parent / "prelude.h"
UNROLLED_LIMIT = 8_000  # statements; beyond it loops are as fast, and compile in a third of the time


@dataclass(frozen=True)
class Lowered:
    """A C++ program for a step, and what a caller must know to allocate its arguments."""

    source: str
    records: dict[str, tuple[torch.dtype, tuple[int, ...]]]  # dtype and shape per member; prompts last, if any
    scratch: int  # bytes
    padded: int  # prompts of a step, rounded up to whole tiles

    def shape(self, name: str, trials: int, jobs: int, steps: int) -> tuple[int, ...]:
        """The shape of a record of a whole pack."""
        shape = self.records[name][1]
        if PROMPTS in shape:
            assert steps == 1, "what every prompt gives is kept for one step at a time"
            return (steps, trials, jobs, *shape[:-1], self.padded)
        return (steps, trials, jobs, *shape)


def lower(step: Step, job: Shapes, state: Shapes, *, unrolled: bool = True) -> Lowered:
    """The C++ program of a step, for a pack whose members have tensors of these shapes.

    unrolled: unroll all loops over array elements, unless that takes more than UNROLLED_LIMIT statements. Raises
    NotLowerable where the step cannot be traced or contains an operation without a rule.
    """
    try:
        traced, drawn, changed, recorded, job_inputs, state_inputs = trace(step, job, state)
    except RuntimeError as error:  # such as a branch on a value; errors of the step itself were raised before
        raise NotLowerable(f"the trace: {error}") from error
    limit = UNROLLED_LIMIT if unrolled else 0
    try:
        emitter: Emitter = UnrolledEmitter(step.prompts, limit)
        return _emitted(emitter, traced, step, job_inputs, state_inputs, drawn, changed, recorded)
    except TooLong:
        emitter = LoopedEmitter(step.prompts)
        return _emitted(emitter, traced, step, job_inputs, state_inputs, drawn, changed, recorded)


class _Lowering(Interpreter):
    """Interprets a traced step with Arrays in place of tensors, which emits its operations."""

    def __init__(self, module: GraphModule, inputs: Sequence[Array], emitter: Emitter) -> None:
        super().__init__(module)
        self.inputs, self.emitter = iter(inputs), emitter

    def run_node(self, n: Node) -> Any:
        if n.op == "placeholder":
            return next(self.inputs)
        if n.op == "get_attr":
            tensor = getattr(self.module, str(n.target))
            return self.emitter.literal(tensor.flatten().tolist(), tuple(tensor.shape), CPP_TYPES[tensor.dtype])
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        if PROMPTS in args:
            raise NotLowerable(f"the number of prompts as an operand of {n.target}")
        if n.op == "output":
            return args[0]
        if getattr(n.target, "__name__", "") == "getitem":
            return args[0][args[1]]
        name = _operation(n)
        if name not in RULES:
            raise NotLowerable(f"the operation {n.target}")
        result = RULES[name](self.emitter, n.meta["val"], *args, **kwargs)
        lazy = name in CONSTANT or name in VIEWS or (name in POINTWISE and len(n.users) == 1 and not _repeated(n))
        if isinstance(result, list):
            return [self.emitter.materialise(array, lazy=lazy) for array in result]
        return self.emitter.materialise(result, lazy=lazy)


def _operation(n: Node) -> str:
    """The name of a node's operation, without its namespace and overload."""
    return str(n.target).removeprefix("aten.").partition(".")[0]


def _repeated(n: Node) -> bool:
    """Whether elements of a node are used more than once: by several nodes, or by one with more elements."""
    if len(n.users) != 1:
        return True
    [user] = n.users
    if user.op == "output":
        return False
    sizes = [x.numel() if isinstance(x := m.meta.get("val"), Tensor) else math.inf for m in (n, user)]
    return sizes[1] > sizes[0] or (_operation(user) in VIEWS and _repeated(user))


def _emitted(
    emitter: Emitter,
    traced: GraphModule,
    step: Step,
    job: Tensors,
    state: Tensors,
    drawn: list[tuple[str, tuple[int, ...]]],
    changed: list[str],
    recorded: list[str],
) -> Lowered:
    """The program of a traced step, from an emitter; the other arguments are what `trace` returns."""
    pointers: list[str] = []

    def stored(name: str, x: Tensor, level: int) -> Array:
        type, member = CPP_TYPES[x.dtype], "(r * jobs + j)" if level else "j"
        line = f"{type}* {name} = ({type}*)tensors[{len(pointers)}] + {member} * {x.numel()};"
        emitter.sections["member" if level else "job"].append(line)
        pointers.append(name)
        return emitter.stored(name, tuple(x.shape), type, level)

    inputs = [stored(f"job_{i}", x, 0) for i, x in enumerate(job.values())]
    inputs += [stored(f"state_{i}", x, MEMBER) for i, x in enumerate(state.values())]
    inputs.append(Array((), "int64_t", lambda index: Operand("t", "int64_t")))
    begin = {"normals": 0, "uniforms": UNIFORMS}
    for kind, shape in drawn:
        if shape[-1] != PROMPTS:
            raise NotLowerable("a draw that is the same for all prompts")
        inputs.append(emitter.drawn(kind, (1, *shape), begin[kind]))
        begin[kind] += math.prod(shape[:-1])
    outputs = _Lowering(traced, inputs, emitter).run()
    order = list(state)
    for name, array in zip(changed, outputs, strict=False):
        emitter.assign(f"state_{order.index(name)}", array, CPP_TYPES[state[name].dtype])
    records: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {}
    for i, (name, array) in enumerate(zip(recorded, outputs[len(changed) :], strict=True)):
        records[name] = (next(dtype for dtype, type in CPP_TYPES.items() if type == array.type), array.shape[2:])
        pointer = f"(({array.type}*)tensors[{len(pointers) + i}])"
        if PROMPTS in array.shape:
            emitter.assign_by_prompt(f"{pointer} + (r * jobs + j) * {array.size} * padded", array)
        else:
            emitter.assign(f"({pointer} + (((t - first) * rates + r) * jobs + j) * {array.size})", array, array.type)
    scratch = len(pointers) + len(recorded)  # its pointer follows those of the records, and the key's follows it
    source, size = emitter.source(f"tensors[{scratch}]", f"tensors[{scratch + 1}]", step.renew)
    return Lowered(emitter.opening + PRELUDE.read_text() + source, records, size, emitter.padded)
