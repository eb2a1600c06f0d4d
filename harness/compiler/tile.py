"""The part of a kernel that a prompt passes through in registers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .cuda import WARP, Cuda
from .ir import BYTES, MEMBER, PROMPT, Expr, Memory, needed
from .products import Products, products_of
from .registers import Registers
from .variables import Variables

ROWS = 64 * 1024  # bytes of shared memory for vectors whose products are summed
REGISTERS = 64  # of a thread, for such sums
HEAD = ["EACH_TURN;", "const uint32_t index = (uint32_t)(begin + k);"]  # of a loop over prompts


@dataclass(frozen=True)
class _Group:
    """Pairs of vectors of the same shape, whose products are summed by the same code."""

    type: str
    shape: tuple[int, int]
    pairs: list[Products]

    @property
    def size(self) -> int:
        """The number of sums."""
        return len(self.pairs) * self.shape[0] * self.shape[1]

    @property
    def bytes(self) -> int:
        """The size of its vectors, for each thread."""
        return len(self.pairs) * sum(self.shape) * BYTES[self.type]

    @property
    def code(self) -> str:
        """The struct of its functions."""
        return f"Shared<{self.shape[0]}, {self.shape[1]}, {len(self.pairs)}>"

    def registers(self, warps: int) -> int:
        """How many registers of a thread its sums take, where they are kept over all tiles."""
        own = -(-max(len(self.pairs), warps) // warps)
        return own * -(-self.shape[0] * self.shape[1] // WARP) * WARP * BYTES[self.type] // BYTES["float"]


class Tile:
    """Writes what is computed of every prompt: in one loop, or, where several steps use the same prompts, in two, with
    what the first computes kept in memory.
    """

    def __init__(self, built: Registers, target: Cuda, *, fused: bool, lines: bool = False) -> None:
        """fused: whether prompts are drawn at each step. lines: whether the model's lines stand beside."""
        self.built, self.target, self.noted = built, target, built.noted if lines else {}
        self.terms = [expr for places in built.sums.values() for _, expr in places.values()]
        self.rows: dict[str, dict[int, int]] = {"double": {}, "float": {}}  # of kept numbers, by their expression
        self.kept = [] if fused else [*self._kept()]
        for expr in self.kept:
            rows = self.rows[_row_type(expr)]
            rows[expr.number] = len(rows)
        self.products = [*self._products()]
        self.registers: list[_Group] = []  # whose sums are kept there
        room = REGISTERS
        for group in self.products:
            room -= group.registers(target.block // WARP)
            self.registers += [group] if room >= 0 else []
        apart = {(group.type, place) for group in self.products for pair in group.pairs for place in pair.places}
        self.others = {  # sums of numbers that each thread adds up by itself
            type: [(place, expr) for place, expr in places.values() if (type, place) not in apart]
            for type, places in built.sums.items()
        }

    def _products(self) -> Iterator[_Group]:
        room = ROWS
        for type, places in self.built.sums.items():
            groups: dict[tuple[int, int], list[Products]] = {}
            for pair in products_of(places.values()):
                room -= sum(pair.shape) * self.target.block * BYTES[type]
                if room >= 0:
                    groups.setdefault(pair.shape, []).append(pair)
            yield from (_Group(type, shape, pairs) for shape, pairs in groups.items())

    @property
    def front(self) -> int:
        """Bytes of memory that the threads exchange numbers in."""
        warps = self.target.block // WARP
        rows = sum(group.bytes for group in self.products)
        totals = [warps * len(others) * BYTES[type] for type, others in self.others.items()]
        return max([rows * self.target.block, *totals])

    @property
    def sums(self) -> dict[str, tuple[str, int]]:
        """Arrays that sums of products are added to: type and number of elements, by name."""
        warps = self.target.block // WARP
        return {
            f"products_{i}": (group.type, group.size * max(1, warps // len(group.pairs)))
            for i, group in enumerate(self.products)
        }

    @property
    def tables(self) -> list[str]:
        """Declarations of the places that sums go to."""
        places = {f"places_{type}": [place for place, _ in others] for type, others in self.others.items() if others}
        for i, group in enumerate(self.products):
            places[f"places_{i}"] = [place for pair in group.pairs for place in pair.places]
        return [f"{self.target.table} short {name}[] = {{{', '.join(map(str, x))}}};" for name, x in places.items()]

    @property
    def reads(self) -> set[Memory]:
        """What it loads from."""
        roots = [*self.terms, *(expr for _, _, expr in self.built.outputs)]
        return {expr.place[0] for expr in needed(roots) if expr.op == "load"}

    def _kept(self) -> Iterable[Expr]:
        """What depends on the prompt but not on the member, where something that does reads it."""
        roots = [*self.terms, *(expr for _, _, expr in self.built.outputs)]
        read = {arg.number: arg for expr in needed(roots) if expr.level & MEMBER for arg in expr.args}
        read |= {expr.number: expr for expr in roots}
        return (expr for expr in read.values() if expr.level & PROMPT and not expr.level & MEMBER)

    def size(self, padded: int) -> int:
        """The bytes of memory in which numbers are kept."""
        return sum(BYTES[type] * len(rows) for type, rows in self.rows.items()) * padded

    def pointers(self, base: str, padded: int) -> str:
        """Declarations of the pointers to these numbers."""
        doubles = f"double* const kept_double = (double*){base};"
        return f"{doubles}\nfloat* const kept_float = (float*)(kept_double + {len(self.rows['double']) * padded});"

    def text(self, drawing: str) -> list[str]:
        """The lines. drawing: the condition on which prompts are drawn."""
        lines: list[str] = []
        names: dict[int, str] = {}
        if self.kept:
            written = Variables(
                self.target, {}, [(expr, f"{self._row(expr)} = {{}};") for expr in self.kept], self.noted
            )
            written.compute(self.kept)
            lines += [drawing, "for (int k = thread; k < prompts; k += W) {", *HEAD, *written.lines, "}"]
            names = {expr.number: self._row(expr) for expr in self.kept}
        lines += [f"{type} sums_{type}[{-(-len(x) // WARP) * WARP}] = {{}};" for type, x in self.others.items() if x]
        tile = self._tile(names)
        added, kept, row = [], [], 0
        for i, group in enumerate(self.products):
            rows = f"({group.type}*)(shared + {row} * W)"
            if group in self.registers:
                lines.append(f"{group.type} x_{i}[{group.code}::own * {group.code}::registers] = {{}};")
                added.append(f"{group.code}::add_all(x_{i}, {rows}, here, thread);")
                kept.append(f"{group.code}::keep_all(products_{i}, x_{i}, thread);")
            else:
                added.append(f"{group.code}::add_and_keep(products_{i}, {rows}, here, thread);")
            row += group.bytes
        if added:
            lines += ["for (int start = 0; start < padded; start += W) {", "const int k = start + thread;"]
            lines += ["if (k < prompts) {", *tile, "}", "__syncthreads();"]
            lines += ["const int here = prompts - start < W ? prompts - start : W;", *added, "__syncthreads();", "}"]
            lines += [*kept, "__syncthreads();"] if kept else []
        elif tile:
            lines += ["for (int k = thread; k < prompts; k += W) {", *tile, "}"]
        for i, group in enumerate(self.products):
            lines.append(f"{group.code}::total(totals_{group.type}, products_{i}, places_{i}, thread);")
        for n, (type, others) in enumerate((type, others) for type, others in self.others.items() if others):
            lines += ["__syncthreads();"] if n else []
            out = f"totals_{type}, sums_{type}, ({type}*)shared, places_{type}, thread"
            lines.append(f"block_totals<{len(others)}>({out});")
        return [*lines, "__syncthreads();"]

    def _tile(self, names: dict[int, str]) -> list[str]:
        """What a prompt passes through. Each number goes where it is needed as soon as it is known.

        names: of what is in memory already.
        """
        uses: list[tuple[Expr, str]] = []
        row = 0
        for group in self.products:
            for n, expr in enumerate(expr for pair in group.pairs for expr in (*pair.left, *pair.right)):
                uses.append((expr, f"(({group.type}*)(shared + {row} * W))[{n} * W + thread] = {{}};"))
            row += group.bytes
        for type, others in self.others.items():
            uses += [(expr, f"sums_{type}[{n}] += {{}};") for n, (_, expr) in enumerate(others)]
        uses += [(expr, f"{memory.name}[{n} * padded + k] = {{}};") for memory, n, expr in self.built.outputs]
        written = Variables(self.target, names, uses, self.noted)
        written.compute(expr for expr, _ in uses)
        return [*HEAD, *written.lines] if uses else []

    def _row(self, expr: Expr) -> str:
        type = _row_type(expr)
        place = f"kept_{type}[{self.rows[type][expr.number]} * padded + k]"
        return place if expr.type != "bool" else f"({place})"


def _row_type(expr: Expr) -> str:
    return "float" if expr.type == "bool" else expr.type
