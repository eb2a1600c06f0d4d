"""How a nest of loops is written for a block of threads, which share it.

The elements of what a member has are divided among threads, or, where there are few that are long sums, among warps. A
sum over prompts is a warp's too: its lanes take the prompts of a tile.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from .affine import Position, Variable
from .builder import Builder
from .ir import PROMPT, Expr, Memory, needed
from .nest import Block, Function, Machine, Scope, Writer
from .statements import Nest

FEW, LONG = 8, 64  # elements, and terms of a sum, that make it a warp's


def shared_function_of(nest: Nest, machine: Machine, builder: Builder) -> Function:
    """The function of a nest. One about what each prompt has is called by each thread for its own."""
    if nest.memory.level & PROMPT and not nest.reduces:
        return Writer(nest, machine, builder).function()
    return _SharedWriter(nest, machine, builder).function()


class _SharedWriter(Writer):
    """Writes one nest whose elements the threads divide among them."""

    def __init__(self, nest: Nest, machine: Machine, builder: Builder) -> None:
        super().__init__(nest, machine, builder)
        self.by_warp = nest.reduces or _few_long_sums(nest)

    def _shares(self) -> list[str]:
        """Declarations of the parameters that say which part of its work the function does."""
        return ["int thread", "int here"] if self.nest.reduces else ["int thread"]

    def _open_all(self, blocks: Sequence[Block]) -> None:
        """The loops as one, of which each thread, or each warp, has its turns."""
        loops = [loop for _, loop, _ in blocks if loop]
        own, all, number = ("thread", "W", self.machine.lanes)
        if self.by_warp:
            own, all, number = "thread / 32", "W / 32", self.machine.lanes // 32
        count = math.prod(v.size for v in loops)
        self.base = len(self.scopes)
        # Each is done once a step, and so all of them together are read from memory: short code is fast code.
        once, again = f"if (const int n = {own}; n < {count}) {{", f"for (int n = {own}; n < {count}; n += {all}) {{"
        head = once if count <= number else f"#pragma unroll 1\n{again}"
        self.scopes.append(Scope(head, frozenset(loops), _indices(loops, "n")))

    def _assign(self, places: Sequence[Position]) -> None:
        super()._assign(places)
        if self.by_warp:
            lines = self.scopes[-1].lines
            lines[-len(places) :] = [f"if (thread % 32 == 0) {line}" for line in lines[-len(places) :]]

    def _reduce(self, places: Sequence[Position]) -> None:
        """Sums of the prompts of a tile, each lane's first and then those of its warp, added to accumulators."""
        sums = [f"s{i}" for i in range(len(places))]
        around = self.scopes[-1]
        around.lines += [f"{self.nest.memory.type} {s} = 0;" for s in sums]
        depth = self.tile_depth = len(self.scopes)
        self.scopes.append(Scope("for (int v = thread % 32; v < here; v += 32) {"))
        for s, copy in zip(sums, self.copies, strict=True):
            code = self._read(copy.args[0])
            self.scopes[-1].lines.append(f"{s} += {code};")
        self._close(depth)
        for s, place in zip(sums, places, strict=True):
            pointer, rest = self._pointer(self.nest.memory, place)
            around.lines += [f"{s} = warp_total({s});", f"if (thread % 32 == 0) {pointer}[{rest}] += {s};"]

    def _stride(self, memory: Memory) -> int:
        """Elements from one prompt to the next."""
        return 1

    def _sum(self, expr: Expr, depth: int) -> None:
        """Declare variables for a sum and for those that share its loop; of a warp's, each lane takes some terms."""
        if not self.by_warp or self.nest.reduces:
            super()._sum(expr, depth)
            return
        group, loops = self._sharing(expr, depth), expr.detail
        inner, self.scopes = self.scopes[depth + 1 :], self.scopes[: depth + 1]
        scope = self.scopes[depth]
        names = [self._name() for _ in group]
        scope.lines += [f"{self.target.type_of(e)} {name}{{}};" for e, name in zip(group, names, strict=True)]
        i, count = f"{names[0]}_n", math.prod(v.size for v in loops)
        head = f"#pragma unroll 1\nfor (int {i} = thread % 32; {i} < {count}; {i} += 32) {{"
        self.scopes.append(Scope(head, frozenset(loops), _indices(loops, i)))
        for e, name in zip(group, names, strict=True):
            code = self._read(e.args[0])
            self.scopes[-1].lines.append(f"{name} += {code};")
        self._close(depth + 1)
        for e, name in zip(group, names, strict=True):
            scope.lines.append(f"{name} = warp_total({name});")
            scope.names[e.number] = name
        self.scopes += inner


def _indices(loops: Sequence[Variable], n: str) -> list[str]:
    """Declarations of loop variables that together count up to n."""
    lines, stride = [], math.prod(v.size for v in loops)
    for v in loops:
        stride //= v.size
        lines.append(f"const int {v.name} = {n} / {stride} % {v.size};")
    return lines


def _few_long_sums(nest: Nest) -> bool:
    """Whether a warp shall compute an element together: it is a sum of many, and there are few elements."""
    if math.prod(v.size for v in nest.axes) > FEW:
        return False
    sums = (e for e in needed([nest.value]) if e.op == "sum")
    return any(math.prod(v.size for v in e.detail) >= LONG for e in sums)
