"""A step as one kernel: a block of threads takes a member through all steps of a launch, and then the next member.

Blocks share nothing and never wait for each other. What a member has is in shared memory, or in the block's own scratch
memory where that is too small; a barrier stands where threads read what others wrote.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .buffers import Buffer, Layout, Span, first_fit
from .cuda import WARP, Cuda
from .ir import BYTES, MEMBER, PROMPT, Memory, Section, needed
from .loop_program import LoopProgram, pointer_to
from .looped import Looped
from .registers import Registers
from .shared_nest import shared_function_of
from .statements import Draw, Nest, Statement, SymmetricProduct, Totals
from .target import Target
from .tile import Tile
from .turns import Work, constant, in_turns, needed_for

SHARED = 96 * 1024  # bytes of shared memory that a block may take


@dataclass(frozen=True)
class Inputs:
    """The tensors that a kernel reads, and those of its records."""

    memory: list[Memory]  # of the job and the state
    records: list[Memory]
    changed: set[Memory]  # of the state


class KernelProgram(LoopProgram):
    """The text of a kernel."""

    def __init__(
        self, built: Looped, target: Cuda, inputs: Inputs, *, renew: int | None, each: bool, lines: bool = False
    ) -> None:
        """renew: steps that use the same prompts; None for all. each: whether they are drawn again at each step all the
        same, as those of a test, which is one step.
        """
        self.inputs, self.renew = inputs, renew
        self.drawing = "" if each or renew == 1 else _drawing(renew)
        self.once: list[str] = []  # what is computed once for all steps of a launch
        self.body: list[str] = []
        self.products: dict[str, Memory] = {}  # where sums of products are, by name
        fused = not self.drawing
        self.tile = Tile(built, target, fused=fused, lines=lines) if isinstance(built, Registers) else None
        super().__init__(built, target, target.block, lines=lines)

    def _read_otherwise(self) -> set[Memory]:
        """What prompts read in registers."""
        return self.tile.reads if self.tile else set()

    @property
    def functions(self) -> str:
        """The functions, and the tables of constants that the kernel reads."""
        return "\n".join([*(self.tile.tables if self.tile else []), super().functions])

    # The layout.

    def _bytes(self, buffer: Buffer, lanes: int) -> int:
        """The size of a buffer: accumulators are the block's, not each thread's."""
        return -(-buffer.size * (lanes if buffer.level & PROMPT else 1) * BYTES[buffer.type] // 64) * 64

    def _reused(self, spans: Sequence[Span]) -> tuple[Layout, int]:
        """A layout that reuses memory among elements of one width: a byte of a narrow one may be another thread's than
        the same byte of a wide one, and threads do not wait for each other within a tile.
        """
        layout: Layout = {}
        end = 0
        for width in sorted({BYTES[span.buffer.type] for span in spans}):
            part, size = first_fit(span for span in spans if BYTES[span.buffer.type] == width)
            layout |= {memory: end + at for memory, at in part.items()}
            end += size
        return layout, end

    def _lay_out(self, lanes: int) -> None:
        """Place what members have in shared memory, the smallest first; the rest, and what prompts have, in scratch."""
        super()._lay_out(lanes)
        sizes = {memory: _rounded(memory.size * BYTES[memory.type]) for memory in self.inputs.memory}
        sizes |= {memory: self._bytes(memory, lanes) for memory in self.single if isinstance(memory, Buffer)}
        if isinstance(self.built, Registers):
            sizes |= {memory: _rounded(memory.size * BYTES[memory.type]) for memory in self.built.totals.values()}
        if self.tile:
            self.products = {name: Memory(name, type, n, MEMBER) for name, (type, n) in self.tile.sums.items()}
            sizes |= {memory: _rounded(memory.size * BYTES[memory.type]) for memory in self.products.values()}
        self.shared: Layout = {}
        self.single = {}
        end = _rounded(self.tile.front) if self.tile else 0
        rest = 0
        for memory, size in sorted(sizes.items(), key=lambda entry: entry[1]):
            if end + size <= SHARED:
                self.shared[memory] = end
                end += size
            elif memory not in self.inputs.memory:
                self.single[memory] = rest
                rest += size
        self.shared_size = end
        local = self.starts["block"] - self.starts["local"]
        drawn = self.drawn_stride * (self.padded // lanes)
        self.starts = {"local": rest, "block": rest + local, "drawn": rest + local + self.block_stride}
        rows = self.tile.size(self.padded) if self.tile else 0
        self.size = _rounded(self.starts["drawn"] + drawn + rows, 256)

    # The text.

    def _write(self, target: Target) -> None:
        sections: tuple[Section, ...] = ("job", "member", "after", "ends")
        accumulators = [x.accumulators for x in self.statements if isinstance(x, Totals)]
        single = [Work(set(), sums, f"zero({sums.name}, {sums.size}, {{}});") for sums in accumulators]
        for section in sections:
            of = [x for x in self.statements if ("after" if isinstance(x, Totals) else x.section) == section]
            single += [self._work(statement) for statement in of if not statement.reduces]
        of_prompts = [x for x in self.statements if x.reduces or x.section in ("draw", "tile")]
        if self.tile:
            lines, read = self.tile.text(self.drawing), self.tile.reads
        else:
            lines = self._loops([x for x in of_prompts if x.section == "draw"], of_prompts)
            read = set(accumulators).union(*(x.reads for x in of_prompts))
        once, single = constant(single, set(self.inputs.memory) - self.inputs.changed)
        before, after = needed_for(read, single)
        self.once = in_turns(once)
        self.body = [*in_turns(before), *lines, *in_turns(after)]

    def _work(self, statement: Statement) -> Work:
        """A statement whose elements the threads share."""
        if isinstance(statement, Totals):
            out, sums = statement.memory, statement.accumulators
            return Work({sums}, out, f"copy({out.name}, {sums.name}, {out.size}, {{}});")
        assert isinstance(statement, Nest)
        by_step = any(expr.op == "step" for expr in needed([statement.value]))
        call = self._call(shared_function_of(statement, self.machine, self.built), statement)
        few = math.prod(v.size for v in statement.axes) <= WARP
        return Work(statement.reads, statement.memory, call + self._beside(statement), by_step, few)

    def _loops(self, draw: Sequence[Statement], others: Sequence[Statement]) -> list[str]:
        """The loops over tiles of a looped step: that which draws, and that which takes the sums over prompts too."""
        body: list[str] = []
        lines = [self._prompt(statement) for statement in draw]
        if lines:
            body += [
                self.drawing,
                "for (int k = thread; k < padded; k += W) {",
                "const uint32_t index = (uint32_t)(begin + k);",
                *self._tile_pointers(self.drawn, "drawn", "k"),
                *self._locals(),
                *lines,
                "}",
                "__syncthreads();",
            ]
        lines = [self._prompt(statement) for statement in others if statement.section == "tile"]
        reductions = [self._prompt(statement) for statement in others if statement.reduces]
        if not lines and not reductions:
            return body
        body += ["for (int start = 0; start < padded; start += W) {", "const int k = start + thread;", "{"]
        body += [*self._tile_pointers(self.drawn, "drawn", "k"), *self._tile_pointers(self.block, "block", "0")]
        body += [*self._locals(), *lines, "}"]
        if reductions:
            body += ["__syncthreads();", "{", "const int here = prompts - start < W ? prompts - start : W;"]
            body += self._tile_pointers(self.drawn, "drawn", "start", own=False)
            body += self._tile_pointers(self.block, "block", "0", own=False)
            body += [*reductions, "}", "__syncthreads();"]
        return [*body, "}"]

    def _prompt(self, statement: Statement) -> str:
        """A statement about what a prompt has."""
        match statement:
            case Draw(kind=kind, first=first, count=count, memory=memory):
                line = self.machine.target.draw(kind, first, count, memory.name)
            case SymmetricProduct(matrix=matrix, vector=vector, start=start, n=n, memory=memory):
                line = f"symmetric_product<{n}>({memory.name}, {matrix.name}, {vector.name} + {start} * W);"
            case Nest():
                line = self._call(shared_function_of(statement, self.machine, self.built), statement)
            case _:
                raise AssertionError(statement)
        return line + self._beside(statement)

    def _beside(self, statement: Statement) -> str:
        return f"  // {statement.line.replace('{', '(').replace('}', ')')}" if self.lines and statement.line else ""

    def _wide(self, memory: Memory) -> bool:
        """Whether there is a number in memory for each prompt."""
        return bool(memory.level & PROMPT)

    def _shares(self, nest: Nest) -> list[str]:
        """The arguments that say which part of its work a function does."""
        if nest.reduces:
            return ["thread", "here"]
        return [] if nest.memory.level & PROMPT else ["{}"]

    def _locals(self) -> list[str]:
        return [pointer_to(memory, "local", at, " + thread") for memory, at in self.local.items()]

    def _tile_pointers(self, layout: Layout, base: str, k: str, *, own: bool = True) -> list[str]:
        stride = self.drawn_stride if base == "drawn" else self.block_stride
        return [
            pointer_to(memory, f"{base} + {k} / W * {stride}", at, " + thread" if own else "")
            for memory, at in layout.items()
        ]

    def text(self) -> list[str]:
        """The lines of the kernel."""
        inputs, records = self.inputs.memory, self.inputs.records
        scratch, key = len(inputs) + len(records), len(inputs) + len(records) + 1
        lines = [
            f"constexpr int prompts = {self.built.prompts}, padded = {self.padded};",
            "const int64_t jobs = given.numbers[0], trials = given.numbers[1], first = given.numbers[2];",
            "const int64_t count = given.numbers[3], begin = given.numbers[4];",
            f"char* const scratch = given.tensors[{scratch}] + (int64_t)blockIdx.x * {self.size};",
            *(f"char* const {name} = scratch + {at};" for name, at in self.starts.items()),
            *(pointer_to(memory, "shared", at) for memory, at in self.shared.items()),
            *(pointer_to(memory, "scratch", at) for memory, at in self.single.items()),
            *([self.tile.pointers("drawn", self.padded)] if self.tile else []),
            "for (int64_t m = blockIdx.x; m < jobs * trials; m += gridDim.x) {",
            "const int64_t j = m % jobs;",
            f"const int64_t* const key = (const int64_t*)given.tensors[{key}] + 3 * j;",
        ]
        out = []
        for n, memory in enumerate(inputs):
            number = "m" if memory.level & MEMBER else "j"
            given = f"({memory.type}*)given.tensors[{n}] + {number} * {memory.size}"
            if memory in self.shared:
                lines.append(f"copy({memory.name}, {given}, {memory.size}, thread);")
                if memory in self.inputs.changed:
                    out.append(f"copy({given}, {memory.name}, {memory.size}, thread);")
            else:
                lines.append(f"{memory.type}* const {memory.name} = {given};")
        lines += [f"zero({memory.name}, {memory.size}, thread);" for memory in self.products.values()]
        lines += ["__syncthreads();", *self.once, "for (int64_t t = first; t < first + count; t++) {"]
        lines.append(f"const Stream stream = stream_of(key, {f't / {self.renew}' if self.renew else '0'});")
        for i, memory in enumerate(records):
            by_prompt = memory.level & PROMPT
            number, row = ("m", " * padded") if by_prompt else ("((t - first) * trials * jobs + m)", "")
            pointer = f"({memory.type}*)given.tensors[{len(inputs) + i}]"
            lines.append(f"{memory.type}* const {memory.name} = {pointer} + {number} * {memory.size}{row};")
        return [*lines, *self.body, "}", *out, "__syncthreads();", "}"]


def _drawing(renew: int | None) -> str:
    """The condition on which prompts are drawn at a step."""
    return "if (t == first)" if renew is None else f"if (t == first || t % {renew} == 0)"


def _rounded(size: int, to: int = 16) -> int:
    return -(-size // to) * to
