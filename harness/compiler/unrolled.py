"""The emitter of unrolled code: one C++ variable per array element, so that the compiler keeps them in registers.

Equal expressions are emitted once. A vector holds W prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from .affine import ravel
from .emitter import Emitter
from .ir import AFTER, MEMBER, PROMPT, VECTOR, Array, Index, NotLowerable, Operand, W, constant, level_of


class TooLong(Exception):
    """The unrolled program has more statements than the limit allows."""


class UnrolledEmitter(Emitter):
    """Emits a statement for every element of every array; raises TooLong after `limit` statements."""

    opening = "#define STRAIGHT_LINE\n"

    def __init__(self, prompts: int, limit: int) -> None:
        super().__init__(prompts, W)
        self.limit = limit
        self.variables: dict[Any, Operand] = {}  # by expression, so that equal expressions are emitted once
        self.accumulators: list[str] = []
        self.reloads: dict[str, str] = {}  # variables of `draw` that `tile` reads, and the statements that load them
        self.rows: dict[str, int] = {"float": 0, "double": 0}  # rows of `padded` prompts that these take, by type

    def emit(
        self, code: str, operands: Sequence[Operand], type: str, mask: str = "", level: int | None = None
    ) -> Operand:
        """A variable with the value of the expression `code`, declared in the section of its level."""
        level = level_of(operands) if level is None else level
        if code not in self.variables:
            self.count += 1
            if self.count > self.limit:
                raise TooLong
            result = self.variables[code] = Operand(f"t{self.count}", type, level, mask=mask)
            self.sections[self.section(level)].append(f"const {result.declared_type} {result.code} = {code};")
        return self.variables[code]

    def use(self, operand: Operand, level: int) -> Operand:
        """The operand; one that is computed in `draw` and read in `tile` is stored and loaded again."""
        if operand.value is not None or self.section(level) != "tile" or self.section(operand.level) != "draw":
            return operand
        if operand.code not in self.reloads:  # a condition is stored as the bits of a number
            row_type = {"vi": "float", "vl": "double"}.get(operand.mask, operand.type)
            row = self.rows[row_type]
            self.rows[row_type] += 1
            pointer = f"drawn_{row_type} + {row} * padded + k"
            self.sections["draw"].append(f"store({pointer}, ({VECTOR[row_type]}){operand.code});")
            type = operand.declared_type
            self.reloads[operand.code] = f"const {type} d_{operand.code} = ({type})load({pointer});"
        return replace(operand, code=f"d_{operand.code}")

    def sum(self, ranges: Sequence[range], term: Callable[[Index], Operand], type: str) -> Operand:
        """The sum of the terms, one addition each, from left to right."""
        return self.add([term(index) for index in product(*ranges)], type)

    def over_prompts(self, operand: Operand) -> Operand:
        """The total over the lanes of a vector accumulator, to which every tile adds."""
        if not operand.level & PROMPT:
            return self.binary("*", operand, constant(self.prompts, operand.type))
        key = ("sum", operand.code)
        if key not in self.variables:
            level = operand.level | MEMBER
            name = f"s{len(self.accumulators)}"
            self.accumulators.append(f"{VECTOR[operand.type]} {name}")
            term = self.use(operand, level).code
            self.sections["tile"].append(f"{name} += {self.without_padding(term, 'prompts - k')};")
            self.variables[key] = self.emit(f"total({name})", [], operand.type, level=(level & ~PROMPT) | AFTER)
        return self.variables[key]

    def materialise(self, array: Array, *, lazy: bool) -> Array:
        """The array with its elements computed now, even if lazy: the C++ compiler drops those that are not used."""
        if array.size > self.limit:
            raise TooLong
        elements = {index: array.at(index) for index in array.indices}
        return Array(array.shape, array.type, elements.__getitem__)

    def stored(self, name: str, shape: tuple[int, ...], type: str, level: int) -> Array:
        """The array behind the C++ pointer `name`, loaded element by element."""
        return Array(shape, type, lambda index: self.emit(f"{name}[{ravel(index, shape)}]", [], type, level=level))

    def literal(self, values: Sequence[float], shape: tuple[int, ...], type: str) -> Array:
        """An array whose elements are C++ literals."""
        return Array(shape, type, lambda index: constant(values[ravel(index, shape)], type))

    def lookup(self, table: Array, index: Index, size: int) -> int:
        """An entry of a table of integer constants, modulo `size`."""
        value = table.at(index).value
        if value is None:
            raise NotLowerable("an index that is computed")
        return int(value) % size

    def drawn(self, kind: str, shape: tuple[int, ...], begin: int) -> Array:
        """Random variates, with an array of four vectors for each counter."""

        def element(index: Index) -> Operand:
            counter, lane = divmod(begin + ravel(index[1:-1], shape[1:-1]), 4)
            words = f"philox(index, word, {counter}u, key_2, rounds)"
            name = f"z{counter}"
            if ("drawn", name) not in self.variables:
                self.variables["drawn", name] = Operand(name, "float", PROMPT)
                self.sections["draw"].append(f"vf {name}[4]; {kind}({words}, {name});")
            return self.emit(f"{name}[{lane}]", [], "float", level=PROMPT)

        return Array(shape, "float", element)

    def assign(self, pointer: str, array: Array, type: str) -> None:
        """Emit an assignment for each element."""
        for n, index in enumerate(array.indices):
            self.sections["ends"].append(f"{pointer}[{n}] = {self.cast(array.at(index), type).code};")

    def assign_by_prompt(self, pointer: str, array: Array) -> None:
        """Emit a vector store for each element."""
        for n, index in enumerate(array.indices):
            value = self.use(array.at(index), MEMBER | PROMPT).vector
            self.sections["tile"].append(f"store({pointer} + {n} * padded + k, {value});")

    def finish(self, scratch: str) -> tuple[str, int]:
        """Complete the sections; the scratch memory has a row for each variable of `draw` that `tile` reads."""
        self.sections["draw"][:0] = ["vu index; for (int i = 0; i < W; i++) index[i] = begin + k + i;"]
        self.sections["tile"][:0] = self.reloads.values()
        self.sections["member"] += [f"{name}{{}};" for name in self.accumulators]
        doubles, floats = self.rows["double"] * self.padded, self.rows["float"] * self.padded
        pointers = (
            f"double* drawn_double = (double*){scratch};\nfloat* drawn_float = (float*)(drawn_double + {doubles});"
        )
        return pointers, 8 * doubles + 4 * floats
