"""How a nest of loops is written as a C++ function.

Rows of a product are computed a few at a time, each in an accumulator of its own: they share what they load, and none
waits for another. Functions with the same text are one, so that equal layers are compiled once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product

from .affine import Affine, Position, Variable, code_of
from .buffers import Buffer
from .builder import Builder
from .ir import BYTES, PROMPT, Expr, Memory, needed
from .statements import Nest, merged
from .target import Target

ROWS = {16: 6, 32: 10}  # at most, of a product of a matrix and a vector, by the number of registers
BLOCKS = {16: (5, 2), 32: (5, 4)}  # the same of a product of two matrices
CHAINS = 4  # partial sums, where one alone would wait for each addition


Block = tuple[Variable, Variable | None, list[Position]]  # an axis, the loop over its blocks, the rows of one


@dataclass(frozen=True)
class Machine:
    """What the text of a nest depends on besides its statement."""

    target: Target
    lanes: int
    padded: int
    partial: bool  # whether the last tile holds fewer prompts than lanes
    strides: dict[Memory, int]  # bytes from a tile to the next, of memory that a sum over prompts reads
    halves: set[Memory]  # symmetric matrices of which only what is on and below the diagonal is read


@dataclass
class Function:
    """A C++ function: its text but for the name, and the pointers that it is called with, as (memory, position)."""

    text: str
    arguments: list[tuple[Memory, int]]
    step: bool  # whether it takes the number of the step


@dataclass
class Scope:
    """A block that is still open: its first line, its statements, and its variables by expression."""

    head: str
    loops: frozenset[Variable] = frozenset()
    lines: list[str] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)


def function_of(nest: Nest, machine: Machine, builder: Builder) -> Function:
    """The function of a nest."""
    return Writer(nest, machine, builder).function()


class Writer:
    """Writes one nest, and notes the pointers that its function needs."""

    def __init__(self, nest: Nest, machine: Machine, builder: Builder) -> None:
        self.nest, self.machine, self.builder, self.target = nest, machine, builder, machine.target
        self.scopes = [Scope("")]
        self.arguments: dict[tuple[Memory, int], str] = {}
        self.starts: dict[Memory, list[int]] = {}  # where these point to
        self.copies: list[Expr] = []  # the values that are computed side by side
        self.count = 0
        self.step = False
        self.tile_depth = 0  # of the loop over tiles, in a sum over prompts
        self.base = 0  # the block outside of which nothing is declared

    def function(self) -> Function:
        """The function, with all blocks of rows."""
        self._point(self.nest.memory, self.nest.position)
        for expr in needed([self.nest.value]):
            if expr.op == "load":
                self._point(*expr.place)
        blocked = self._blocked()
        if not blocked:
            self.nest = merged(self.nest, self.builder)
        choices = [_blocks(v, blocked.get(v, 1)) for v in self.nest.axes]
        for blocks in product(*choices):
            self._block(blocks)
        names = {name: place for place, name in self.arguments.items()}
        out, *others = names
        declared = [f"{names[out][0].type}* __restrict {out}"]
        declared += [f"const {names[name][0].type}* __restrict {name}" for name in others]
        declared += ["int64_t t"] if self.step else []
        declared += self._shares()
        text = f"({', '.join(declared)}) {{\n" + "\n".join(self.scopes[0].lines) + "\n}\n"
        return Function(text, [*self.arguments], self.step)

    def _shares(self) -> list[str]:
        """Declarations of the parameters that say which part of its work the function does."""
        return ["int64_t tiles, int64_t left"] if self.nest.reduces else []

    def _blocked(self) -> dict[Variable, int]:
        """How many values of an axis are computed side by side."""
        value = self.nest.value
        sums = [e for e in needed([value]) if e.op in ("sum", "total") and (e.level & PROMPT or e.op == "total")]
        axes = [v for v in self.nest.axes if any(v in e.loops for e in sums)][-2:]
        if not axes:
            return {}
        if len(axes) == 1:
            return {axes[0]: _rows(axes[0].size, ROWS[self.target.registers])}
        most = BLOCKS[self.target.registers]
        return {v: _rows(v.size, n) for v, n in zip(axes, most, strict=True)}

    def _block(self, blocks: Sequence[Block]) -> None:
        """The loops over blocks of rows, and in them the rows of one."""
        outer = len(self.scopes)
        self.scopes.append(Scope("{"))
        self._open_all(blocks)
        changes: list[dict[Variable, Position]] = [
            dict(zip((v for v, _, _ in blocks), values, strict=True)) for values in product(*(x for _, _, x in blocks))
        ]
        self.copies = [self.builder.replaced(self.nest.value, values) for values in changes]
        places = [self.builder.position(self.nest.position, values) for values in changes]
        (self._reduce if self.nest.reduces else self._assign)(places)
        self._close(outer)

    def _open_all(self, blocks: Sequence[Block]) -> None:
        """The loops over blocks of rows."""
        for n, (_, loop, rows) in enumerate(blocks):
            if loop and n and self.nest.memory in self.machine.halves:
                self._open(loop, f" && {code_of(rows[0])} <= {code_of(blocks[0][2][-1])}")
            elif loop:
                self._open(loop)

    def _assign(self, places: Sequence[Position]) -> None:
        memory = self.nest.memory
        for place, value in zip(places, self.copies, strict=True):
            code = self._read(value)
            pointer, rest = self._pointer(memory, place)
            if not memory.level & PROMPT:
                line = f"{pointer}[{rest}] = {code};"
            else:
                row = self.machine.lanes if isinstance(memory, Buffer) else self.machine.padded
                if memory.compared:
                    condition = self.target.condition(value, code, memory.compared)
                    vector = f"({self.target.vector_of(memory.type)}){condition}"
                else:
                    vector = self.target.vector(value, code)
                line = f"store({pointer} + ({rest}) * {row}, {vector});"
            self.scopes[-1].lines.append(line)

    def _reduce(self, places: Sequence[Position]) -> None:
        """Accumulators that are loaded, increased by the prompts of every tile of a block, and stored."""
        memory, type = self.nest.memory, self.target.vector_of(self.nest.value.type)
        sums = [f"s{i}" for i in range(len(places))]
        found = [self._pointer(memory, place) for place in places]
        pointers = [f"{pointer} + ({rest}) * {self.machine.lanes}" for pointer, rest in found]
        around = self.scopes[-1]
        around.lines += [f"{type} {s} = load({p});" for s, p in zip(sums, pointers, strict=True)]
        tails = ["for (int64_t v = 0; v < tiles; v++) {"]
        tails += ["if (int64_t v = tiles; left) {"] if self.machine.partial else []
        for i, head in enumerate(tails):
            depth = self.tile_depth = len(self.scopes)
            self.scopes.append(Scope(head))
            for s, copy in zip(sums, self.copies, strict=True):
                code = self._read(copy.args[0])
                self.scopes[-1].lines.append(f"{s} += {f'only({code}, left)' if i else code};")
            self._close(depth)
        around.lines += [f"store({p}, {s});" for s, p in zip(sums, pointers, strict=True)]

    def _open(self, loop: Variable, further: str = "") -> None:
        head = f"for ({self.target.index} {loop.name} = 0; {loop.name} < {loop.size}{further}; {loop.name}++) {{"
        self.scopes.append(Scope(head, frozenset([loop])))

    def _close(self, depth: int) -> None:
        """Close the innermost blocks until `depth` of them are open."""
        while len(self.scopes) > depth:
            scope = self.scopes.pop()
            self.scopes[-1].lines += [scope.head, *scope.lines, "}"]

    def _depth(self, expr: Expr) -> int:
        """The innermost block that changes an expression."""
        depth = self.tile_depth if self.tile_depth and expr.level & PROMPT else self.base
        for i, scope in enumerate(self.scopes):
            if scope.loops & expr.loops:
                depth = max(depth, i)
        return depth

    def _read(self, expr: Expr) -> str:
        """The code of an expression's value: a constant, or a variable, which is declared where it changes."""
        for part in needed([expr], outside_sums=True):
            self._declare(part)
        return self._name_of(expr)

    def _name_of(self, expr: Expr) -> str:
        """The code of a value that has been declared."""
        return self.target.code(expr, ()) if expr.op == "const" else self.scopes[self._depth(expr)].names[expr.number]

    def _declare(self, expr: Expr) -> None:
        """Declare a variable for an expression whose arguments have theirs."""
        if expr.op == "const":
            return
        depth = self._depth(expr)
        scope = self.scopes[depth]
        if expr.number in scope.names:
            return
        if expr.op == "sum":
            self._sum(expr, depth)
            return
        self.step |= expr.op == "step"
        args = [self._name_of(arg) for arg in expr.args]
        code = self._load(expr) if expr.op == "load" else self.target.code(expr, args)
        name = scope.names[expr.number] = self._name()
        scope.lines.append(f"const {self.target.type_of(expr)} {name} = {code};")

    def _load(self, expr: Expr) -> str:
        memory, position = expr.place
        pointer, rest = self._pointer(memory, position)
        if not expr.level & PROMPT:
            return f"{pointer}[{rest}]"
        if self.nest.reduces:
            pointer += f" + v * {self._stride(memory)}"
        code = f"load({pointer} + ({rest}) * {self.machine.lanes})"
        return f"({self.target.type_of(expr)}){code}" if memory.compared else code

    def _stride(self, memory: Memory) -> int:
        """Elements from what one turn of a sum over prompts reads to what the next does."""
        return self.machine.strides[memory] // BYTES[memory.type]

    def _point(self, memory: Memory, position: Position) -> None:
        """Make a parameter that points to the constant part of a position."""
        start = position if isinstance(position, int) else position.constant
        if (memory, start) not in self.arguments:
            self.arguments[memory, start] = f"p{len(self.arguments)}"
            self.starts.setdefault(memory, []).append(start)

    def _pointer(self, memory: Memory, position: Position) -> tuple[str, str]:
        """The parameter to reach a position from, and the way from there."""
        start = position if isinstance(position, int) else position.constant
        nearest = max((x for x in self.starts[memory] if x <= start), default=min(self.starts[memory]))
        return self.arguments[memory, nearest], code_of(position + -nearest)

    def _name(self) -> str:
        self.count += 1
        return f"t{self.count}"

    def _sum(self, expr: Expr, depth: int) -> None:
        """Declare variables for a sum and for those of the other copies, which share its loop."""
        group = self._sharing(expr, depth)
        loops: tuple[Variable, ...] = expr.detail
        inner, self.scopes = self.scopes[depth + 1 :], self.scopes[: depth + 1]
        scope = self.scopes[depth]
        chains = CHAINS if expr.level & PROMPT and len(group) < CHAINS and loops[-1].size >= 2 * CHAINS else 1
        terms = {e.number: [f"{self._name()}" for _ in range(chains)] for e in group}
        for e in group:
            scope.lines += [f"{self.target.type_of(e)} {name}{{}};" for name in terms[e.number]]
        for v in loops[:-1]:
            self._open(v)
        before = len(self.scopes)
        for _, loop, places in _blocks(loops[-1], chains):
            if loop:
                self._open(loop)
            for e in group:
                for i, place in enumerate(places):
                    code = self._read(self.builder.replaced(e.args[0], {loops[-1]: place}))
                    self.scopes[-1].lines.append(f"{terms[e.number][i]} += {code};")
            self._close(before)
        self._close(depth + 1)
        for e in group:
            scope.names[e.number] = terms[e.number][0]
            if chains > 1:
                names = terms[e.number]
                name = scope.names[e.number] = self._name()
                scope.lines.append(f"const {self.target.type_of(e)} {name} = {' + '.join(names)};")
        self.scopes += inner

    def _sharing(self, expr: Expr, depth: int) -> list[Expr]:
        """A sum, and those of the other copies that share its loop."""
        group = [e for e in needed(self.copies) if e.op == "sum" and e.detail == expr.detail]
        return [e for e in group if self._depth(e) == depth and e.number not in self.scopes[depth].names]


def _blocks(v: Variable, rows: int) -> list[Block]:
    """An axis in blocks of rows: the axis, the loop over blocks, and the rows of one; the last may be shorter."""
    if rows == 1:
        return [(v, v, [Affine(((v, 1),))])]
    whole, rest = divmod(v.size, rows)
    loop = Variable(f"{v.name}_", whole)
    found: list[Block] = []
    if whole > 1:
        found.append((v, loop, [Affine(((loop, rows),), i) for i in range(rows)]))
    elif whole:
        found.append((v, None, list(range(rows))))
    if rest:
        found.append((v, None, [whole * rows + i for i in range(rest)]))
    return found


def _rows(n: int, most: int) -> int:
    """How many of n rows to compute side by side, at most so many: a divisor, if there is a large one."""
    return next((r for r in range(min(n, most), most // 2, -1) if n % r == 0), min(n, most))
