"""Looped statements as a program: what is needed of them, where their buffers lie, and the calls of their functions."""

from __future__ import annotations

from collections.abc import Sequence

from .buffers import Buffer, Layout, Span, consecutive, first_fit
from .ir import PROMPT, Memory, Section, section_of
from .looped import Looped
from .nest import Function, Machine, function_of
from .statements import Draw, Nest, Statement, SymmetricProduct, Totals
from .target import Target, literal

BLOCK = 8  # tiles that pass before the sums over prompts are taken


class LoopProgram:
    """The text of a looped program."""

    def __init__(self, built: Looped, target: Target, lanes: int, *, lines: bool) -> None:
        """lines: whether each call has the line of the model beside it."""
        self.built, self.lines = built, lines
        self.padded = -(-built.prompts // lanes) * lanes
        self.statements = _live(built.statements, self._read_otherwise())
        self._lay_out(lanes)
        strides = {memory: self.drawn_stride for memory in self.drawn}
        strides |= {memory: self.block_stride for memory in self.block}
        whole = {
            memory
            for statement in self.statements
            for memory in statement.reads
            if not isinstance(statement, SymmetricProduct) or memory is not statement.matrix
        }
        halves = built.symmetric.keys() - whole
        self.machine = Machine(target, lanes, self.padded, self.padded > built.prompts, strides, halves)
        self.names: dict[str, str] = {}  # of functions, by their text
        names: tuple[Section, ...] = ("job", "draw", "member", "tile", "after", "ends")
        self.sections: dict[Section, list[str]] = {name: [] for name in names}
        self.reductions: list[str] = []
        self._write(target)

    def _read_otherwise(self) -> set[Memory]:
        """What is read besides by statements."""
        return set()

    def _lay_out(self, lanes: int) -> None:
        """Place the buffers: those of members, and for every tile those that another loop over tiles reads; the others
        of a tile share memory.
        """
        readers: dict[Memory, list[int]] = {}
        writers: dict[Memory, list[int]] = {}
        for i, statement in enumerate(self.statements):
            writers.setdefault(statement.memory, []).append(i)
            for memory in statement.reads:
                readers.setdefault(memory, []).append(i)
        spans: dict[str, list[Span]] = {"single": [], "drawn": [], "block": [], "local": []}
        for memory, numbers in writers.items():
            if isinstance(memory, Buffer):
                uses = [*numbers, *readers.get(memory, [])]
                kind = self._kind(memory, [self.statements[i] for i in readers.get(memory, [])])
                spans[kind].append(Span(memory, self._bytes(memory, lanes), min(uses), max(uses)))
        self.single, end = consecutive(spans["single"])
        self.local, size = self._reused(spans["local"])
        self.block, self.block_stride = consecutive(spans["block"])
        self.drawn, self.drawn_stride = consecutive(spans["drawn"])
        self.starts = {"local": end, "block": end + size, "drawn": end + size + self.block_stride * BLOCK}
        self.size = self.starts["drawn"] + self.drawn_stride * (self.padded // lanes) + 64

    def _bytes(self, buffer: Buffer, lanes: int) -> int:
        """The size of a buffer, for prompts that stand side by side."""
        return buffer.bytes(lanes)

    def _reused(self, spans: Sequence[Span]) -> tuple[Layout, int]:
        """A layout of what only one tile has, and its size."""
        return first_fit(spans)

    @staticmethod
    def _kind(buffer: Buffer, readers: Sequence[Statement]) -> str:
        if not buffer.level & PROMPT or buffer.accumulates:
            return "single"
        reduced = any(reader.reduces for reader in readers)
        if section_of(buffer.level) == "draw":
            return "drawn" if reduced or any(reader.section == "tile" for reader in readers) else "local"
        return "block" if reduced else "local"

    def _write(self, target: Target) -> None:
        for statement in self.statements:
            beside = f"  // {statement.line}" if self.lines and statement.line else ""
            match statement:
                case Totals(accumulators=sums):
                    line = f"totals<{sums.size}>({statement.memory.name}, {sums.name});{beside}"
                    self.sections["member"].append(f"zero<{sums.size}>({sums.name});")
                    self.sections["after"].append(line)
                case Draw():
                    draw = target.draw(statement.kind, statement.first, statement.count, statement.memory.name)
                    self.sections["draw"].append(draw + beside)
                case SymmetricProduct(matrix=matrix, vector=vector):
                    names = f"{statement.memory.name}, {matrix.name}, {vector.name} + {statement.start} * W"
                    self.sections[statement.section].append(f"symmetric_product<{statement.n}>({names});{beside}")
                case Nest():
                    call = self._call(function_of(statement, self.machine, self.built), statement) + beside
                    (self.reductions if statement.reduces else self.sections[statement.section]).append(call)
        self.sections["draw"][:0] = ["const vu index = (uint32_t)(begin + k) + lane_numbers();"]
        self.sections["draw"][:0] = self._tile_pointers(self.drawn, "drawn", "k")
        self.sections["tile"][:0] = [
            *self._tile_pointers(self.drawn, "drawn", "k"),
            *self._tile_pointers(self.block, "block", "(k - start)"),
        ]
        if self.reductions:
            self.reductions[:0] = [
                "const int64_t left = end > prompts ? prompts - (end - W) : 0, tiles = (end - start) / W - (left > 0);",
                *self._tile_pointers(self.drawn, "drawn", "start"),
                *self._tile_pointers(self.block, "block", "0"),
            ]

    def _call(self, function: Function, nest: Nest) -> str:
        """The call of a function, which is written once for all that have its text."""
        name = self.names.setdefault(function.text, f"f{len(self.names)}")
        arguments = []
        for memory, start in function.arguments:
            wide = self._wide(memory)
            row = "" if not wide else f" * {'W' if isinstance(memory, Buffer) else 'padded'}"
            pointer = memory.name if isinstance(memory, Buffer) or not wide else f"{memory.name} + k"
            arguments.append(f"{pointer} + {start}{row}" if start else pointer)
        arguments += ["t"] if function.step else []
        arguments += self._shares(nest)
        return f"{name}({', '.join(arguments)});"

    def _wide(self, memory: Memory) -> bool:
        """Whether there is a number in memory for each of the prompts that stand side by side."""
        return bool(memory.level & PROMPT) or (isinstance(memory, Buffer) and memory.accumulates)

    def _shares(self, nest: Nest) -> list[str]:
        """The arguments that say which part of its work a function does."""
        return ["tiles", "left"] if nest.reduces else []

    @property
    def functions(self) -> str:
        """The functions, and the tables of constants that they read."""
        table = self.machine.target.table
        tables = [f"{table} int64_t {name}[] = {{{_listed(x)}}};" for name, x in self.built.tables.items()]
        for (type, values), memory in self.built.constants.items():
            numbers = ", ".join(literal(x, type) for x in values)
            tables.append(f"{table} {type} {memory.name}[] = {{{numbers}}};")
        return "\n".join(tables + [f"NOINLINE static void {name}{text}" for text, name in self.names.items()])

    def pointers(self, scratch: str) -> str:
        """Declarations of pointers into the memory at the pointer `scratch`."""
        lines = [f"char* memory = (char*)(((uint64_t){scratch} + 63) & ~(uint64_t)63);"]
        lines += [pointer_to(memory, "memory", at) for memory, at in self.single.items()]
        lines += [f"char* {name} = memory + {at};" for name, at in self.starts.items()]
        lines += [pointer_to(memory, "local", at) for memory, at in self.local.items()]
        return "\n".join(lines)

    def _tile_pointers(self, layout: Layout, base: str, k: str) -> list[str]:
        """Declarations of pointers to what a tile has for itself; k: the code of its first prompt, from the base on."""
        stride = self.drawn_stride if base == "drawn" else self.block_stride
        return [pointer_to(memory, f"{base} + {k} / W * {stride}", at) for memory, at in layout.items()]


def _live(statements: Sequence[Statement], others: set[Memory]) -> list[Statement]:
    """The statements without those whose result nobody reads. others: memory that is read otherwise."""
    kept: list[Statement] = []
    read = set(others)
    for statement in reversed(statements):
        if not isinstance(statement.memory, Buffer) or statement.memory in read:
            kept.append(statement)
            read |= statement.reads
    return kept[::-1]


def pointer_to(memory: Memory, base: str, offset: int, further: str = "") -> str:
    """The declaration of a pointer to memory that lies so many bytes after a base. further: elements beyond."""
    return f"{memory.type}* {memory.name} = ({memory.type}*)({base} + {offset}){further};"


def _listed(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))
