"""A step, written once in tensors, as one C++ loop.

A step is small: vectors in R^d, matrices, a few layers, the same for every prompt. So it is traced for one member,
each of its operations is taken apart into scalars, and all prompts run through the resulting straight line eight at a
time: what was an array in memory becomes a register, and its gradient and Adam are in the same loop. Members share
nothing, so a member's numbers do not depend, to the bit, on its neighbours.
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

from .atoms import LIMIT, MEMBER, PLACE, PROMPT, PROMPTS, VECTOR, Array, Atom, Index, NotLowerable, Writer, constant
from .rules import RULES, ravel
from .step import Step, Tensors
from .streams import UNIFORMS, Draws

PRELUDE = Path(__file__).parent / "prelude.h"
LANES = 8


@dataclass(frozen=True)
class Lowered:
    """A program in C++, and how to call it."""

    source: str
    records: dict[str, tuple[torch.dtype, tuple[int, ...]]]  # type and shape of one member's, prompts last if any
    scratch: tuple[int, int]  # floats and doubles for a step's prompts

    def shape(self, name: str, rates: int, jobs: int, steps: int, padded: int) -> tuple[int, ...]:
        """Of a record of the whole pack."""
        shape = self.records[name][1]
        if PROMPTS in shape:
            assert steps == 1, "what every prompt gives is kept for one step at a time"
            return (steps, rates, jobs, *shape[:-1], padded)
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


def lower(step: Step, job: Tensors, state: Tensors) -> Lowered:
    """The program of a step: job and state are those of any pack of the structure."""
    try:
        traced, drawn, new, records, one, member = _traced(step, job, state)
    except RuntimeError as error:  # a branch on a value, say; what breaks without a trace has raised before
        raise NotLowerable(f"the trace: {error}") from error
    return _assemble(traced, step, one, member, drawn, new, records)


def _traced(
    step: Step, job: Tensors, state: Tensors
) -> tuple[GraphModule, list[tuple[str, tuple[int, ...]]], list[str], list[str], Tensors, Tensors]:
    """One member's step as a graph of tensor operations; what it draws; the names of its results; its inputs."""
    with FakeTensorMode():
        one = {name: torch.empty(1, *x.shape[1:], dtype=x.dtype) for name, x in job.items()}
        member = {name: torch.empty(1, 1, *x.shape[2:], dtype=x.dtype) for name, x in state.items()}
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


class _Scalars(Interpreter):
    """Runs a traced step on Arrays instead of tensors."""

    def __init__(self, module: GraphModule, inputs: Sequence[Array], writer: Writer) -> None:
        super().__init__(module)
        self.inputs, self.writer = iter(inputs), writer

    def run_node(self, n: Node) -> Any:
        if n.op == "placeholder":
            return next(self.inputs)
        if n.op == "get_attr":
            return _literal(getattr(self.module, str(n.target)))
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        if PROMPTS in args:
            raise NotLowerable(f"the number of prompts as an operand of {n.target}")
        if n.op == "output":
            return args[0]
        if getattr(n.target, "__name__", "") == "getitem":
            return args[0][args[1]]
        rule = RULES.get(str(n.target).removeprefix("aten.").partition(".")[0])
        if rule is None:
            raise NotLowerable(f"the operation {n.target}")
        made = rule(self.writer, n.meta["val"], *args, **kwargs)
        return [_once(m) for m in made] if isinstance(made, list) else _once(made)


def _once(array: Array) -> Array:
    """The same array, its elements computed now."""
    if array.size > LIMIT:
        raise NotLowerable(f"an array of {array.size} elements")
    known = {index: array.at(index) for index in array.indices}
    return Array(array.shape, array.type, known.__getitem__)


def _literal(tensor: Tensor) -> Array:
    values, kind = tensor.tolist(), PLACE[tensor.dtype]

    def at(index: Index) -> Atom:
        found: Any = values
        for i in index:
            found = found[i]
        return constant(found, kind)

    return Array(tuple(tensor.shape), kind, at)


def _assemble(
    traced: GraphModule,
    step: Step,
    job: Tensors,
    state: Tensors,
    drawn: list[tuple[str, tuple[int, ...]]],
    new: list[str],
    recorded: list[str],
) -> Lowered:
    writer = Writer(step.prompts)
    pointers: list[str] = []

    def stored(name: str, x: Tensor, member: bool) -> Array:
        type, size = PLACE[x.dtype], x.numel()
        pointers.append(name)
        own = writer.sections["member" if member else "job"]
        where = "(r * jobs + j)" if member else "j"
        own.append(f"{type}* {name} = ({type}*)tensors[{len(pointers) - 1}] + {where} * {size};")
        shape = tuple(x.shape)

        def at(index: Index) -> Atom:
            return writer.write(f"{name}[{ravel(index, shape)}]", [], type, level=MEMBER if member else 0)

        return Array(shape, type, at)

    inputs = [stored(f"job_{i}", x, False) for i, x in enumerate(job.values())]
    inputs += [stored(f"state_{i}", x, True) for i, x in enumerate(state.values())]
    inputs.append(Array((), "int64_t", lambda index: Atom("t", "int64_t")))
    begin = {"normals": 0, "uniforms": UNIFORMS}
    for kind, shape in drawn:
        inputs.append(_draw(writer, kind, (1, *shape), begin[kind]))
        begin[kind] += math.prod(shape[:-1])
    outputs = _Scalars(traced, inputs, writer).run()
    ends: list[str] = []
    order = list(state)
    for name, array in zip(new, outputs, strict=False):
        target, x = f"state_{order.index(name)}", state[name]
        for n, index in enumerate(array.indices):
            atom = writer.cast(array.at(index), PLACE[x.dtype])
            ends.append(f"{target}[{n}] = {atom.code};")
    records: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {}
    for i, (name, array) in enumerate(zip(recorded, outputs[len(new) :], strict=True)):
        shape, size = array.shape[2:], math.prod(n for n in array.shape if n != PROMPTS)
        records[name] = (next(d for d, p in PLACE.items() if p == array.type), shape)
        pointer = f"(({array.type}*)tensors[{len(pointers) + i}])"
        for n, index in enumerate(array.indices):
            atom = array.at(index)
            if PROMPTS in array.shape:
                row = f"((r * jobs + j) * {size} + {n}) * padded + k"
                code = writer.use(atom, MEMBER | PROMPT).code
                value = code if atom.level & PROMPT else f"{VECTOR[atom.type]}{{}} + {code}"
                writer.sections["tile"].append(f"store({pointer} + {row}, {value});")
            else:
                ends.append(f"{pointer}[(((t - first) * rates + r) * jobs + j) * {size} + {n}] = {atom.code};")
    source = _source(writer, ends, len(pointers) + len(recorded), step)
    return Lowered(source, records, (writer.rows["float"], writer.rows["double"]))


def _draw(writer: Writer, kind: str, shape: tuple[int, ...], begin: int) -> Array:
    """Variates `begin` and following: four to a counter."""
    if shape[-1] != PROMPTS:
        raise NotLowerable("a draw that is the same for all prompts")

    def at(index: Index) -> Atom:
        counter, lane = divmod(begin + ravel(index[1:-1], shape[1:-1]), 4)
        words = f"philox(index, word, {counter}u, key_2, rounds)"
        name = f"z{counter}"
        if ("drawn", name) not in writer.names:
            writer.names["drawn", name] = Atom(name, "float", PROMPT)
            writer.sections["draw"].append(f"vf {name}[4]; {kind}({words}, {name});")
        return writer.write(f"{name}[{lane}]", [], "float", level=PROMPT)

    return Array(shape, "float", at)


def _source(writer: Writer, ends: list[str], tensors: int, step: Step) -> str:
    prompts, fresh = step.prompts, step.fresh
    padded = -(-prompts // LANES) * LANES
    rows = writer.rows
    section = {name: "\n".join(lines) for name, lines in writer.sections.items()}
    back = "\n".join(writer.frontier.values())
    add = "s += x" if padded == prompts else "s += only(x, prompts - k)"
    return f"""{PRELUDE.read_text()}
#define ADD(s, x) {add}
extern "C" void run(void** tensors, const int64_t* numbers) {{
const int64_t jobs = numbers[0], rates = numbers[1], first = numbers[2], count = numbers[3], begin = numbers[4];
constexpr int64_t prompts = {prompts}, padded = {padded};
float* drawn_float = (float*)tensors[{tensors}];
double* drawn_double = (double*)(drawn_float + {rows["float"]} * padded);
for (int64_t j = 0; j < jobs; j++)
for (int64_t t = first; t < first + count; t++) {{
const int64_t* key = (const int64_t*)tensors[{tensors + 1}] + 3 * j;
const uint32_t key_2 = key[2], word = {"t" if fresh else "0"};
const Key rounds = schedule(key[0], key[1]);
{section["job"]}
{"" if fresh else "if (t == first)"}
for (int64_t k = 0; k < padded; k += W) {{
vu index;
for (int i = 0; i < W; i++) index[i] = begin + k + i;
{section["draw"]}
}}
for (int64_t r = 0; r < rates; r++) {{
{section["member"]}
{"".join(a + "{}; " for a in writer.accumulators)}
for (int64_t k = 0; k < padded; k += W) {{
{back}
{section["tile"]}
}}
{section["after"]}
{chr(10).join(ends)}
}}
}}
}}
"""
