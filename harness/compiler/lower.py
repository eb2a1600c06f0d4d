"""Lower a step, which is written once in tensors, to one C++ loop.

A step is small: vectors in R^d, matrices, a few layers, the same for every prompt. So it is traced for one member, and
a tile of prompts passes through all of its operations, forward and backward, before the next tile does: intermediate
results stay in registers (`unrolled.py`) or, where there are too many of them, in the cache (`looped.py`). Members
share nothing, so a member's numbers do not depend, to the bit, on the other members of its pack.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Literal, Self

from torch import Tensor

from .builder import Builder
from .interpreter import DRAW, Operations, operation_of
from .ir import MEMBER, PROMPT, PROMPTS, TYPES, Array, Memory, NotLowerable, Section, type_of
from .known import Shapes
from .loop_program import BLOCK, LoopProgram
from .looped import Looped
from .step import Step
from .target import Target, host
from .trace import Trace, trace
from .tracer import VALUE
from .unrolled import TooLong, Unrolled

UNROLLED_LIMIT = 8_000  # statements; beyond it loops are as fast, and compile in a third of the time


Form = Literal["unrolled", "looped"]
Record = tuple[Memory, tuple[int, ...]]  # where it is written, and its shape


@dataclass(frozen=True)
class Layout:
    """What a caller of a program must know to allocate its arguments."""

    records: dict[str, tuple[str, tuple[int, ...]]]  # dtype and shape per member; prompts last, if any
    scratch: int  # bytes
    padded: int  # prompts of a step, rounded up to whole tiles

    @classmethod
    def of(cls, plain: dict[str, Any]) -> Self:
        """The layout from its fields as JSON has them."""
        records = {name: (dtype, tuple(shape)) for name, (dtype, shape) in plain["records"].items()}
        return cls(**plain | {"records": records})

    def shape(self, name: str, trials: int, jobs: int, steps: int) -> tuple[int, ...]:
        """The shape of a record of a whole pack."""
        shape = self.records[name][1]
        if PROMPTS in shape:
            assert steps == 1, "what every prompt gives is kept for one step at a time"
            return (steps, trials, jobs, *shape[:-1], self.padded)
        return (steps, trials, jobs, *shape)


@dataclass(frozen=True)
class Lowered:
    """A C++ program for a step."""

    source: str
    shared: str  # the source of what it is linked with
    layout: Layout


@dataclass(frozen=True)
class Counts:
    """What a step consists of, whatever its machine and its pack: what decides how it runs."""

    operations: int  # on tensors
    numbers: int  # that these compute for each prompt
    variates: int  # that are drawn for each prompt
    statements: int | None  # of the unrolled program; None if it would have too many


def lowering(step: Step, job: Shapes, state: Shapes) -> Lowering:
    """The step of one member, traced, for members that have tensors of these shapes.

    Raises NotLowerable where the step cannot be traced.
    """
    return Lowering(step, trace(step, job, state), host())


@dataclass(frozen=True)
class Lowering:
    """A traced step on its way to a program."""

    step: Step
    trace: Trace
    target: Target

    @property
    def lanes(self) -> int:
        """How many prompts stand side by side."""
        return self.target.lanes(self.step.dtype)

    @functools.cached_property
    def counts(self) -> Counts:
        """What the step consists of. Raises NotLowerable where an operation has no rule."""
        nodes = [n for n in self.trace.graph.nodes if n.op == "call_function"]
        sizes = [x.numel() // PROMPTS for n in nodes if isinstance(x := n.meta[VALUE], Tensor) and PROMPTS in x.shape]
        variates = sum(n.meta[VALUE].numel() // PROMPTS for n in nodes if operation_of(n) == DRAW)
        return Counts(len(nodes), sum(sizes), variates, self._unrolled[0].count if self._unrolled else None)

    @functools.cached_property
    def _unrolled(self) -> tuple[Unrolled, list[Memory], list[Record]] | None:
        """The step with an expression for each element, and its inputs and records; None where it would be too long."""
        builder = Unrolled(self.step.prompts, UNROLLED_LIMIT)
        try:
            return builder, *self.built(builder)
        except TooLong:
            return None

    def lowered(self, form: Form, *, lines: bool = False) -> Lowered:
        """The program in this form, or looped where the unrolled one would be too long. Raises NotLowerable.

        lines: with the model's lines as comments.
        """
        if form == "unrolled" and self._unrolled:
            unrolled, inputs, records = self._unrolled
            sections, pointers, size = unrolled.program(self.target, self.lanes, self._scratch, lines=lines)
            return self._lowered(sections, inputs, records, size, pointers=pointers, functions="", reductions="")
        builder = Looped(self.step.prompts)
        inputs, records = self.built(builder)
        program = LoopProgram(builder, self.target, self.lanes, lines=lines)
        return self._lowered(
            program.sections,
            inputs,
            records,
            program.size,
            pointers=program.pointers(self._scratch),
            functions=program.functions,
            reductions="\n".join(program.reductions),
        )

    @property
    def _arguments(self) -> int:
        """The number of tensors of the job, the state and the records."""
        return len(self.trace.job) + len(self.trace.state) + len(self.trace.recorded)

    @property
    def _scratch(self) -> str:
        """The code of the pointer to the scratch memory, which follows those of the job, the state and the records."""
        return f"tensors[{self._arguments}]"

    @property
    def _key(self) -> str:
        return f"tensors[{self._arguments + 1}]"

    def built(self, builder: Builder) -> tuple[list[Memory], list[Record]]:
        """Build the step's expressions; returns the memory of its inputs, and of its records with their shapes."""
        job, state = self.trace.job, self.trace.state
        memory = [Memory(f"job_{i}", type_of(x.dtype), x.numel(), 0) for i, x in enumerate(job.values())]
        memory += [Memory(f"state_{i}", type_of(x.dtype), x.numel(), MEMBER) for i, x in enumerate(state.values())]
        tensors = [*job.values(), *state.values()]
        inputs = [builder.stored(place, tuple(x.shape)) for place, x in zip(memory, tensors, strict=True)]
        inputs.append(Array((), "int64_t", lambda index: builder.expr("step", (), "int64_t")))
        outputs = Operations(self.trace, inputs, builder).run()
        builder.line = ""
        places = dict(zip(state, memory[len(job) :], strict=True))
        for name, array in zip(self.trace.changed, outputs, strict=False):
            if array.shape != tuple(state[name].shape):
                raise NotLowerable(
                    f"the state's {name} of shape {array.shape[2:]}, in place of {state[name].shape[2:]}"
                )
            builder.assign(places[name], array, "ends")
        records: list[Record] = []
        for i, array in enumerate(outputs[len(self.trace.changed) :]):
            if array.shape[:2] != (1, 1):
                raise NotLowerable(f"the record {self.trace.recorded[i]} without axes for trials and jobs")
            by_prompt = PROMPTS in array.shape
            place = Memory(f"record_{i}", array.type, array.size, PROMPT | MEMBER if by_prompt else MEMBER)
            builder.assign(place, array, "tile" if by_prompt else "ends")
            records.append((place, array.shape[2:]))
        return memory, records

    def records(self, written: list[Record]) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Dtype and shape of each record, by its name."""
        dtypes = {type: str(dtype).removeprefix("torch.") for dtype, type in TYPES.items()}
        return {
            name: (dtypes[memory.type], shape)
            for name, (memory, shape) in zip(self.trace.recorded, written, strict=True)
        }

    def _lowered(
        self, sections: dict[Section, list[str]], inputs: list[Memory], written: list[Record], size: int, **texts: str
    ) -> Lowered:
        """The program of these sections, with the pointers to the job, the state and the records put first."""
        padded = -(-self.step.prompts // self.lanes) * self.lanes
        job: list[str] = []
        member: list[str] = []
        for n, memory in enumerate(inputs):
            number, lines = ("(r * jobs + j)", member) if memory.level else ("j", job)
            lines.append(f"{memory.type}* {memory.name} = ({memory.type}*)tensors[{n}] + {number} * {memory.size};")
        for i, (memory, shape) in enumerate(written):
            number, row = ("(r * jobs + j)", " * padded") if PROMPTS in shape else (_RECORD, "")
            pointer = f"({memory.type}*)tensors[{len(inputs) + i}]"
            member.append(f"{memory.type}* record_{i} = {pointer} + {number} * {memory.size}{row};")
        sections["job"][:0] = job
        sections["member"][:0] = member
        source = self.target.source(
            sections,
            lanes=self.lanes,
            prompts=self.step.prompts,
            padded=padded,
            block=BLOCK,
            renew=self.step.renew,
            key=self._key,
            **texts,
        )
        return Lowered(source, self.target.shared(self.lanes), Layout(self.records(written), size, padded))


_RECORD = "(((t - first) * trials + r) * jobs + j)"  # the number of a record of a step
