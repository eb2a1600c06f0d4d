"""Unrolled code: one C++ variable per array element, so that the compiler keeps them in registers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

from .affine import ravel
from .builder import Builder, after
from .ir import BYTES, PROMPT, Array, Expr, Index, Memory, NotLowerable, Section, needed, section_of, whole_prompts
from .target import CONDITIONS, VECTORS, Target


class TooLong(Exception):
    """The unrolled program has more statements than the limit allows."""


class Unrolled(Builder):
    """Makes an expression for every element of every array; raises TooLong after `limit` expressions."""

    def __init__(self, prompts: int, limit: int) -> None:
        super().__init__(prompts)
        self.limit = limit
        self.lines: dict[int, str] = {}  # of the model, by the number of the expression that they are written as
        self.count = 0
        self.outputs: list[tuple[Memory, int, Expr, Section]] = []  # what is stored where at the end

    def made(self, expr: Expr) -> Expr:
        """The expression; raises TooLong where there are too many."""
        self.count += expr.op != "const"
        if self.count > self.limit:
            raise TooLong
        self.lines[expr.number] = self.line
        return expr

    def sum(self, ranges: Sequence[range], term: Callable[[Index], Expr], type: str) -> Expr:
        """The sum of the terms, one addition each, from left to right."""
        return self.add([term(index) for index in product(*ranges)], type)

    def over_prompts(self, expr: Expr) -> Expr:
        """The sum of an expression over all prompts."""
        if not expr.level & PROMPT:
            return self.repeated(expr)
        return self.expr("total", (expr,), expr.type, level=after(expr.level))

    def materialise(self, array: Array, *, lazy: bool) -> Array:
        """The array with its elements computed now, even if lazy: those that nobody needs are never written."""
        if array.size > self.limit:
            raise TooLong
        elements = {index: array.at(index) for index in array.indices}

        def element(index: Index) -> Expr:
            whole_prompts(index, array.shape)
            return elements[index]

        return Array(array.shape, array.type, element)

    def stored(self, memory: Memory, shape: tuple[int, ...]) -> Array:
        """An input of the step, loaded element by element."""
        return Array(shape, memory.type, lambda index: self.load(memory, ravel(index, shape)))

    def literal(self, values: Sequence[float], shape: tuple[int, ...], type: str) -> Array:
        """An array of constants."""
        return Array(shape, type, lambda index: self.constant(values[ravel(index, shape)], type))

    def lookup(self, table: Array, index: Index, size: int) -> int:
        """An entry of a table of integer constants, modulo `size`."""
        value = table.at(index).value
        if value is None:
            raise NotLowerable("an index that is computed")
        return int(value) % size

    def drawn(self, kind: str, begin: int, shape: Sequence[int]) -> Array:
        """Random variates, four to a counter."""

        def element(index: Index) -> Expr:
            whole_prompts(index, tuple(shape))
            place = divmod(begin + ravel(index[1:-1], shape[1:-1]), 4)
            return self.expr("variate", (), "float", detail=(kind, *place), level=PROMPT)

        return Array(tuple(shape), "float", element)

    def assign(self, memory: Memory, array: Array, section: Section) -> None:
        """Note what is to be stored."""
        for n, index in enumerate(array.indices):
            value = array.at(index)
            if section == "ends":
                value = self.cast(value, memory.type)
            self.outputs.append((memory, n, value, section))

    def program(
        self, target: Target, lanes: int, scratch: str, *, lines: bool
    ) -> tuple[dict[Section, list[str]], str, int]:
        """The sections of the program; the declarations of pointers into the memory at the pointer `scratch`; and the
        bytes of it that they need. lines: whether the model's lines stand above what they became.
        """
        padded = -(-self.prompts // lanes) * lanes
        writer = _Writer(target, padded > self.prompts)
        live = needed(expr for _, _, expr, _ in self.outputs)
        writer.draw({expr.detail[:2] for expr in live if expr.op == "variate"})
        for expr in live:
            if lines:
                writer.note(expr, self.lines[expr.number])
            writer.write(expr)
        for memory, n, expr, section in self.outputs:
            writer.store(memory, n, expr, section)
        return writer.sections, writer.pointers(scratch, padded), writer.size(padded)


class _Writer:
    """Writes expressions as statements, each into the section of its level."""

    def __init__(self, target: Target, partial: bool) -> None:
        self.target, self.partial = target, partial  # whether the last tile holds fewer prompts than lanes
        names: tuple[Section, ...] = ("job", "draw", "member", "tile", "after", "ends")
        self.sections: dict[Section, list[str]] = {name: [] for name in names}
        self.names: dict[int, str] = {}  # of the variables, by the number of the expression
        self.counters: dict[tuple[str, int], tuple[str, int]] = {}  # arrays of their variates, and where these start
        self.reloads: dict[int, str] = {}  # variables of `tile` with what `draw` computed
        self.rows = {"float": 0, "double": 0}  # of `padded` prompts that these take in memory, by type
        self.sums = 0
        self.noted: dict[Section, str] = {}  # the last line of the model in each section
        self.sections["draw"].append("const vu index = (uint32_t)(begin + k) + lane_numbers();")

    def draw(self, counters: set[tuple[str, int]]) -> None:
        """Declare arrays with the variates of these counters, those of consecutive ones together."""
        ahead = sorted(counters)
        while ahead:
            kind, first = ahead[0]
            run = [place for i, place in enumerate(ahead) if place == (kind, first + i)]
            name = f"z{len(self.counters)}"
            self.counters |= {place: (name, 4 * i) for i, place in enumerate(run)}
            draw = self.target.draw(kind, first, len(run), f"(float*){name}")
            self.sections["draw"].append(f"vf {name}[{4 * len(run)}]; {draw}")
            ahead = ahead[len(run) :]

    def note(self, expr: Expr, line: str) -> None:
        """Write the model's line, where it is another than above."""
        section = section_of(expr.level)
        if expr.op != "const" and line and self.noted.get(section) != line:
            self.sections[section].append(f"// {line}")
            self.noted[section] = line

    def write(self, expr: Expr) -> None:
        """Declare a variable with the value of an expression."""
        if expr.op == "const":
            self.names[expr.number] = self.target.code(expr, ())
            return
        section = section_of(expr.level)
        code = self._total(expr) if expr.op == "total" else self._code(expr, section)
        name = self.names[expr.number] = f"t{len(self.names)}"
        self.sections[section].append(f"const {self.target.type_of(expr)} {name} = {code};")

    def _code(self, expr: Expr, section: Section) -> str:
        if expr.op == "load":
            memory, position = expr.place
            return f"{memory.name}[{position}]"
        if expr.op == "variate":
            kind, counter, i = expr.detail
            name, start = self.counters[kind, counter]
            return f"{name}[{start + i}]"
        return self.target.code(expr, [self._read(arg, section) for arg in expr.args])

    def _read(self, expr: Expr, section: Section) -> str:
        """The variable of an expression; what is computed in `draw` and read in `tile` is stored and loaded again."""
        name = self.names[expr.number]
        if section != "tile" or expr.op == "const" or section_of(expr.level) != "draw":
            return name
        if expr.number not in self.reloads:  # a condition is stored as the bits of a number
            type = expr.compared if expr.type == "bool" else expr.type
            pointer = f"drawn_{type} + {self.rows[type]} * padded + k"
            self.rows[type] += 1
            self.sections["draw"].append(f"store({pointer}, ({VECTORS[type]}){name});")
            declared = self.target.type_of(expr)
            self.reloads[expr.number] = f"d{len(self.reloads)}"
            loaded = f"const {declared} {self.reloads[expr.number]} = ({declared})load({pointer});"
            self.sections["tile"].append(loaded)
        return self.reloads[expr.number]

    def _total(self, expr: Expr) -> str:
        """The sum over the lanes of a vector to which every tile adds."""
        [term] = expr.args
        name, vector = f"s{self.sums}", VECTORS[term.type]
        self.sums += 1
        self.sections["member"].append(f"{vector} {name}{{}};")
        added = f"{name} + {self._read(term, 'tile')}"
        if self.partial:
            added = f"pick(inside_{CONDITIONS[term.type]}, {added}, {name})"
        self.sections["tile"].append(f"{name} = {added};")
        return f"total({name})"

    def store(self, memory: Memory, n: int, expr: Expr, section: Section) -> None:
        """Store element n of an output."""
        if section == "tile":
            value = self.target.vector(expr, self._read(expr, "tile"))
            self.sections["tile"].append(f"store({memory.name} + {n} * padded + k, {value});")
        else:
            self.sections["ends"].append(f"{memory.name}[{n}] = {self.names[expr.number]};")

    def pointers(self, scratch: str, padded: int) -> str:
        """Declarations of pointers to the rows of what `draw` leaves for `tile`."""
        if self.partial:
            inside = ["const vu left = (uint32_t)(prompts - k) + vu{};", "const vi inside_vi = lane_numbers() < left;"]
            inside.append("const vl inside_vl = to_vl(inside_vi);")
            self.sections["tile"][:0] = inside
        floats = f"float* drawn_float = (float*)(drawn_double + {self.rows['double'] * padded});"
        return f"double* drawn_double = (double*){scratch};\n{floats}"

    def size(self, padded: int) -> int:
        """The bytes of scratch memory."""
        return sum(BYTES[type] * rows for type, rows in self.rows.items()) * padded
