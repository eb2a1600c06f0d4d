"""A step, written once in tensors, as one C++ loop.

A step is small: vectors in R^d, matrices, a few layers, the same for every prompt. So it is traced for one member, and
a few prompts at a time run through all of its operations, forward and backward, before the next few do: what is
between two operations stays in registers (`scalars.py`), or where it is too much for them in the cache (`loops.py`).
Members share nothing, so a member's numbers do not depend, to the bit, on its neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import GraphModule, Interpreter, Node
from torch.fx.experimental.proxy_tensor import make_fx

from .ir import MEMBER, PLACE, PROMPTS, Array, Atom, NotLowerable, Writer
from .looped import Loops
from .ops import CONSTANT, POINTWISE, RULES
from .ops_views import VIEWS
from .step import Step, Tensors
from .streams import UNIFORMS, Draws
from .unrolled import Scalars, TooLong

PRELUDE = Path(__file__).parent / "prelude.h"
Shapes = tuple[tuple[str, tuple[int, ...], torch.dtype], ...]  # names, shapes and types of one member's tensors
STRAIGHT = 8_000  # lines, beyond which loops are as fast, and compile in a third of the time


@dataclass(frozen=True)
class Lowered:
    """A program in C++, and how to call it."""

    source: str
    records: dict[str, tuple[torch.dtype, tuple[int, ...]]]  # type and shape of one member's, prompts last if any
    scratch: int  # bytes
    padded: int  # prompts of a step, with those that fill the last few up

    def shape(self, name: str, rates: int, jobs: int, steps: int) -> tuple[int, ...]:
        """Of a record of the whole pack."""
        shape = self.records[name][1]
        if PROMPTS in shape:
            assert steps == 1, "what every prompt gives is kept for one step at a time"
            return (steps, rates, jobs, *shape[:-1], self.padded)
        return (steps, rates, jobs, *shape)


class Recorded(Draws):
    """Notes what is drawn; gives zeros, or what is given for it."""

    def __init__(self, given: Sequence[Tensor] | None = None) -> None:
        self.drawn: list[tuple[str, tuple[int, ...]]] = []
        self.given = given

    def normal(self, *shape: int) -> Tensor:
        """Standard normals, to be."""
        return self._draw("normals", shape)

    def uniform(self, *shape: int) -> Tensor:
        """Uniforms, to be."""
        return self._draw("uniforms", shape)

    def _draw(self, kind: str, shape: tuple[int, ...]) -> Tensor:
        self.drawn.append((kind, shape))
        return torch.empty(1, *shape) if self.given is None else self.given[len(self.drawn) - 1]


def lower(step: Step, job: Shapes, state: Shapes, *, straight: bool = True) -> Lowered:
    """The program of a step on a pack whose members have such tensors. straight: in one line, if it is not too long."""
    try:
        traced, drawn, new, records, one, member = _traced(step, job, state)
    except RuntimeError as error:  # a branch on a value, say; what breaks without a trace has raised before
        raise NotLowerable(f"the trace: {error}") from error
    try:
        longest = STRAIGHT if straight else 0
        return _written(Scalars(step.prompts, longest), traced, step, one, member, drawn, new, records)
    except TooLong:
        return _written(Loops(step.prompts), traced, step, one, member, drawn, new, records)


def _traced(
    step: Step, job: Shapes, state: Shapes
) -> tuple[GraphModule, list[tuple[str, tuple[int, ...]]], list[str], list[str], Tensors, Tensors]:
    """One member's step as a graph of tensor operations; what it draws; the names of its results; its inputs."""
    with FakeTensorMode():
        one = {name: torch.empty(1, *shape, dtype=dtype) for name, shape, dtype in job}
        member = {name: torch.empty(1, 1, *shape, dtype=dtype) for name, shape, dtype in state}
        number = torch.empty((), dtype=torch.int64)

        def run(job: Tensors, state: Tensors, t: Tensor, random: Draws) -> tuple[Tensors, Tensors]:
            return step.update(job, state, step.draw(job, Typed(random, step.dtype), PROMPTS), t)

        noted = Recorded()
        new, records = run(one, member, number, noted)
        draws = [torch.empty(1, *shape) for _, shape in noted.drawn]

        def flat(*tensors: Tensor) -> list[Tensor]:
            rest = list(tensors)
            given = [{name: rest.pop(0) for name in names} for names in (one, member)]
            found = run(given[0], given[1], rest.pop(0), Recorded(rest))
            return [*found[0].values(), *found[1].values()]

        functional = torch.func.functionalize(flat, remove="mutations")
        traced = make_fx(functional)(*one.values(), *member.values(), number, *draws)
    traced.graph.eliminate_dead_code()
    return traced, noted.drawn, list(new), list(records), one, member


class Typed(Draws):
    """Draws in another type."""

    def __init__(self, draws: Draws, dtype: torch.dtype) -> None:
        self.draws, self.dtype = draws, dtype

    def normal(self, *shape: int) -> Tensor:
        """Standard normals."""
        return self.draws.normal(*shape).to(self.dtype)

    def uniform(self, *shape: int) -> Tensor:
        """Uniforms."""
        return self.draws.uniform(*shape).to(self.dtype)


class _Writing(Interpreter):
    """Runs a traced step on Arrays instead of tensors."""

    def __init__(self, module: GraphModule, inputs: Sequence[Array], writer: Writer) -> None:
        super().__init__(module)
        self.inputs, self.writer = iter(inputs), writer

    def run_node(self, n: Node) -> Any:
        if n.op == "placeholder":
            return next(self.inputs)
        if n.op == "get_attr":
            tensor = getattr(self.module, str(n.target))
            return self.writer.literal(tensor.tolist(), tuple(tensor.shape), PLACE[tensor.dtype])
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        if PROMPTS in args:
            raise NotLowerable(f"the number of prompts as an operand of {n.target}")
        if n.op == "output":
            return args[0]
        if getattr(n.target, "__name__", "") == "getitem":
            return args[0][args[1]]
        name = _name(n)
        if name not in RULES:
            raise NotLowerable(f"the operation {n.target}")
        made = RULES[name](self.writer, n.meta["val"], *args, **kwargs)
        lazy = name in CONSTANT or name in VIEWS or (name in POINTWISE and len(n.users) == 1 and not _repeated(n))
        if isinstance(made, list):
            return [self.writer.hold(m, lazy=lazy) for m in made]
        return self.writer.hold(made, lazy=lazy)


def _name(n: Node) -> str:
    """Of the operation, whatever its overload."""
    return str(n.target).removeprefix("aten.").partition(".")[0]


def _repeated(n: Node) -> bool:
    """Whether elements of a node are used more than once: by several others, or by one that is larger."""
    if len(n.users) != 1:
        return True
    [user] = n.users
    if user.op == "output":
        return False
    sizes = [x.numel() if isinstance(x := m.meta.get("val"), Tensor) else math.inf for m in (n, user)]
    return sizes[1] > sizes[0] or (_name(user) in VIEWS and _repeated(user))


def _written(
    writer: Writer,
    traced: GraphModule,
    step: Step,
    job: Tensors,
    state: Tensors,
    drawn: list[tuple[str, tuple[int, ...]]],
    new: list[str],
    recorded: list[str],
) -> Lowered:
    pointers: list[str] = []

    def stored(name: str, x: Tensor, level: int) -> Array:
        type, where = PLACE[x.dtype], "(r * jobs + j)" if level else "j"
        line = f"{type}* {name} = ({type}*)tensors[{len(pointers)}] + {where} * {x.numel()};"
        writer.sections["member" if level else "job"].append(line)
        pointers.append(name)
        return writer.stored(name, tuple(x.shape), type, level)

    inputs = [stored(f"job_{i}", x, 0) for i, x in enumerate(job.values())]
    inputs += [stored(f"state_{i}", x, MEMBER) for i, x in enumerate(state.values())]
    inputs.append(Array((), "int64_t", lambda index: Atom("t", "int64_t")))
    begin = {"normals": 0, "uniforms": UNIFORMS}
    for kind, shape in drawn:
        if shape[-1] != PROMPTS:
            raise NotLowerable("a draw that is the same for all prompts")
        inputs.append(writer.drawn(kind, (1, *shape), begin[kind]))
        begin[kind] += math.prod(shape[:-1])
    outputs = _Writing(traced, inputs, writer).run()
    order = list(state)
    for name, array in zip(new, outputs, strict=False):
        writer.assign(f"state_{order.index(name)}", array, PLACE[state[name].dtype])
    records: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {}
    for i, (name, array) in enumerate(zip(recorded, outputs[len(new) :], strict=True)):
        records[name] = (next(d for d, p in PLACE.items() if p == array.type), array.shape[2:])
        pointer = f"(({array.type}*)tensors[{len(pointers) + i}])"
        if PROMPTS in array.shape:
            writer.kept(f"{pointer} + (r * jobs + j) * {array.size} * padded", array)
        else:
            writer.assign(f"({pointer} + (((t - first) * rates + r) * jobs + j) * {array.size})", array, array.type)
    last = len(pointers) + len(recorded)
    source, scratch = writer.source(f"tensors[{last}]", f"tensors[{last + 1}]", step.renew)
    return Lowered(writer.opening + PRELUDE.read_text() + source, records, scratch, writer.padded)
