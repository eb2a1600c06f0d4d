"""The part of a kernel that a prompt passes through in registers."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from .affine import code_of
from .cuda import WARP, Cuda
from .ir import BYTES, MEMBER, PROMPT, Expr, Memory, NotLowerable, needed
from .products import Products, products_of
from .registers import Registers
from .target import Target

ROWS = 64 * 1024  # bytes of shared memory for vectors whose products are summed
REGISTERS = 64  # of a thread, for such sums


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
    def rows(self) -> int:
        """The number of rows of its vectors' elements, each as long as one of floats."""
        return len(self.pairs) * sum(self.shape) * BYTES[self.type] // BYTES["float"]

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

    def __init__(self, built: Registers, target: Cuda, *, fused: bool) -> None:
        self.built, self.target = built, target
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
            for pair in products_of(places.values()) if self.target.apart else ():
                room -= sum(pair.shape) * self.target.block * BYTES[type]
                if room >= 0:
                    groups.setdefault(pair.shape, []).append(pair)
            yield from (_Group(type, shape, pairs) for shape, pairs in groups.items())

    @property
    def front(self) -> int:
        """Bytes of memory that the threads exchange numbers in."""
        warps = self.target.block // WARP
        rows = sum(group.rows * BYTES["float"] for group in self.products)
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
            written = _Lines(self.target, {}, [(expr, f"{self._row(expr)} = {{}};") for expr in self.kept])
            written.compute(self.kept)
            lines += [drawing, "for (int k = thread; k < prompts; k += W) {", *_HEAD, *written.lines, "}"]
            names = {expr.number: self._row(expr) for expr in self.kept}
        lines += [f"{type} sums_{type}[{-(-len(x) // WARP) * WARP}] = {{}};" for type, x in self.others.items() if x]
        tile = self._tile(names)
        added, kept, row = [], [], 0
        for i, group in enumerate(self.products):
            rows = f"({group.type}*)shared + {row} * W"
            if group in self.registers:
                lines.append(f"{group.type} x_{i}[{group.code}::own * {group.code}::registers] = {{}};")
                added.append(f"{group.code}::add_all(x_{i}, {rows}, here, thread);")
                kept.append(f"{group.code}::keep_all(products_{i}, x_{i}, thread);")
            else:
                added.append(f"{group.code}::add_and_keep(products_{i}, {rows}, here, thread);")
            row += group.rows
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
                uses.append((expr, f"(({group.type}*)shared + {row} * W)[{n} * W + thread] = {{}};"))
            row += group.rows
        for type, others in self.others.items():
            uses += [(expr, f"sums_{type}[{n}] += {{}};") for n, (_, expr) in enumerate(others)]
        uses += [(expr, f"{memory.name}[{n} * padded + k] = {{}};") for memory, n, expr in self.built.outputs]
        written = _Lines(self.target, names, uses)
        written.compute(expr for expr, _ in uses)
        return [*_HEAD, *written.lines] if uses else []

    def _row(self, expr: Expr) -> str:
        type = _row_type(expr)
        place = f"kept_{type}[{self.rows[type][expr.number]} * padded + k]"
        return place if expr.type != "bool" else f"({place})"


def _row_type(expr: Expr) -> str:
    return "float" if expr.type == "bool" else expr.type


def _variates(roots: Sequence[Expr]) -> Iterator[Expr]:
    """The variates that the roots are computed from, as depth-first search meets them."""
    seen: set[int] = set()
    ahead = [*reversed(roots)]
    while ahead:
        expr = ahead.pop()
        if expr.number not in seen:
            seen.add(expr.number)
            if expr.op == "variate":
                yield expr
            ahead += reversed(expr.args)


def _soon_after_draws(exprs: Sequence[Expr], variates: Iterable[Expr]) -> Iterator[Expr]:
    """The expressions, each after its arguments: as given, but variates late, and what they complete at once, so that
    few of them are in registers at a time.

    variates: in the order in which they are drawn, all four of a counter together.
    """
    missing: dict[int, int] = {}  # how many arguments that come of variates are still to be written
    users: dict[int, list[Expr]] = {}
    for expr in exprs:
        drawn = {arg.number for arg in expr.args if arg.number in missing}
        if drawn or expr.op == "variate":
            missing[expr.number] = len(drawn)
            for number in drawn:
                users.setdefault(number, []).append(expr)
    others = {expr.number: expr for expr in exprs if expr.number not in missing}
    counters: dict[tuple[str, int], list[Expr]] = {}
    for expr in variates:
        if expr.number in missing:
            counters.setdefault(expr.detail[:2], []).append(expr)
    for together in counters.values():
        ready = [(variate.number, variate) for variate in together]
        heapq.heapify(ready)
        while ready:
            _, expr = heapq.heappop(ready)
            yield from _taken(expr.args, others)
            yield expr
            for user in users.get(expr.number, ()):
                missing[user.number] -= 1
                if not missing[user.number]:
                    heapq.heappush(ready, (user.number, user))
    yield from others.values()


def _taken(roots: Iterable[Expr], others: dict[int, Expr]) -> Iterator[Expr]:
    """What the roots need of some expressions, each after its arguments; they are taken out."""
    ahead = [root for root in roots if root.number in others]
    found: dict[int, Expr] = {}
    while ahead:
        expr = ahead.pop()
        found[expr.number] = expr
        ahead += [arg for arg in expr.args if arg.number in others and arg.number not in found]
    for number in sorted(found):
        yield others.pop(number)


_HEAD = ["EACH_TURN;", "const uint32_t index = (uint32_t)(begin + k);"]


class _Lines:
    """Declarations of variables, one after the other."""

    def __init__(self, target: Target, names: dict[int, str], uses: Iterable[tuple[Expr, str]]) -> None:
        """names: of what is in memory already. uses: statements with a place for a number, which follow its variable."""
        self.target, self.memory = target, names
        self.uses: dict[int, list[str]] = {}
        for expr, statement in uses:
            self.uses.setdefault(expr.number, []).append(statement)
        self.names: dict[int, str] = {}
        self.counters: dict[tuple[str, int], str] = {}  # of the streams: variables with their four variates
        self.lines: list[str] = []

    def compute(self, roots: Iterable[Expr]) -> None:
        """Declare all that the roots are computed from, and them."""
        roots = [*roots]
        ahead, found = [*roots], dict[int, Expr]()
        while ahead:  # as `needed`, but not beyond what is in memory
            expr = ahead.pop()
            if expr.number not in found:
                found[expr.number] = expr
                ahead += () if expr.number in self.memory else expr.args
        fresh = [found[number] for number in sorted(found.keys() - self.names.keys())]
        for expr in _soon_after_draws(fresh, _variates(roots)):
            self._declare(expr)

    def _declare(self, expr: Expr) -> None:
        if expr.op == "const":
            self.names[expr.number] = self.target.code(expr, ())
        elif expr.op == "load":  # again at each use, as a member's numbers are too many to keep in registers
            memory, position = expr.place
            self.names[expr.number] = f"{memory.name}[{code_of(position)}]"
        else:
            code, name = self._code(expr), f"t{len(self.names)}"
            self.names[expr.number] = name
            self.lines.append(f"const {self.target.type_of(expr)} {name} = {code};")
        self.lines += [use.format(self.names[expr.number]) for use in self.uses.get(expr.number, ())]

    def _code(self, expr: Expr) -> str:
        if expr.number in self.memory:
            return self.memory[expr.number]
        if expr.op == "variate":
            kind, counter, i = expr.detail
            if (kind, counter) not in self.counters:
                four = self.counters[kind, counter] = f"z{len(self.counters)}"
                self.lines.append(f"const Four {four} = {kind}(index, {counter}u, stream);")
            return f"{self.counters[kind, counter]}.x[{i}]"
        if expr.op == "sum":
            raise NotLowerable("a loop among what prompts have in registers")
        return self.target.code(expr, [self.names[arg.number] for arg in expr.args])
