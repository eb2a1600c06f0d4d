"""The emitter of looped code: arrays in memory, and loops over their elements, for steps too large to unroll.

A tile of prompts passes through all operations, so that the results of one operation are in the cache for the next. An
array that is used once, element by element, is never stored but fused into the loop that uses it. Loop-invariant
expressions are hoisted. A tile has several vectors of prompts, so that consecutive additions to an accumulator need not
wait for each other: a line that contains an @ is emitted once for each vector.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

from .affine import Affine, Variable, code_of, depth_of, ravel
from .buffers import Buffer, consecutive, first_fit, pointers
from .emitter import Emitter
from .ir import (
    AFTER,
    MEMBER,
    PROMPT,
    PROMPTS,
    VECTOR,
    Array,
    Index,
    NotLowerable,
    Operand,
    Region,
    W,
    constant,
    level_of,
)
from .loop_nest import VECTORS, Element, Scope, for_each_vector, live


class LoopedEmitter(Emitter):
    """Emits a loop nest for every array that is stored, with a loop for each of its axes."""

    def __init__(self, prompts: int) -> None:
        super().__init__(prompts, VECTORS * W)
        self.buffers: list[Buffer] = []
        self.tables: dict[str, str] = {}  # declarations of constant tables, and their names
        self.scopes: list[Scope] = []
        self.arrays = 0  # so far; their numbers are the time axis of live ranges
        self.position: Any = 0  # in the flat array, of the element that is being emitted
        self.size = 0  # of that array
        self.accumulated: tuple[Operand, Buffer] | None = None  # that element's sum over prompts, and its accumulator

    def emit(
        self, code: str, operands: Sequence[Operand], type: str, mask: str = "", level: int | None = None
    ) -> Operand:
        """A variable with the value of the expression `code`, hoisted out of all loops that do not change it."""
        depth = max((operand.depth for operand in operands), default=0)
        return self._emit(code, type, mask, level_of(operands) if level is None else level, depth)

    def _emit(self, code: str, type: str, mask: str, level: int, depth: int) -> Operand:
        scope = self.scopes[depth]
        if code not in scope.variables:
            result = scope.variables[code] = Operand(self._name(level), type, level, mask=mask, depth=depth)
            scope.lines.append(f"const {result.declared_type} {result.code} = {code};")
        return scope.variables[code]

    def _name(self, level: int) -> str:
        """The name of a new variable, with an @ if each vector of a tile has its own."""
        self.count += 1
        return f"t{self.count}_@" if level & PROMPT else f"t{self.count}"

    def use(self, operand: Operand, level: int) -> Operand:
        """The operand unchanged: a loop reads what an earlier loop computed from its buffer."""
        return operand

    def sum(self, ranges: Sequence[range], term: Callable[[Index], Operand], type: str) -> Operand:
        """The sum of the terms, accumulated by a loop nest inside the loops that are open."""
        if not all(ranges):
            return constant(0.0, type)
        outer = len(self.scopes)
        operand = term(self._open([len(r) for r in ranges]))
        if operand.value is not None:
            self._close(outer)
            return constant(operand.value * math.prod(len(r) for r in ranges), type)
        if len(self.scopes) == outer:
            return operand
        total = Operand(self._name(operand.level), type, operand.level, depth=outer - 1)
        self.scopes[-1].lines.append(f"{total.code} += {operand.code};")
        loops = self._close(outer)
        self.scopes[-1].lines += [f"{total.declared_type} {total.code}{{}};", *loops]
        return total

    def over_prompts(self, operand: Operand) -> Operand:
        """The operand, after an addition to a vector accumulator, whose lanes `_buffer` adds up."""
        if not operand.level & PROMPT:
            return self.binary("*", operand, constant(self.prompts, operand.type))
        accumulator = self._memory(operand.type, self.size, (operand.level & ~PROMPT) | MEMBER | AFTER, lanes=W)
        pointer = f"{accumulator.name} + ({code_of(self.position)}) * W"
        terms = [
            self.without_padding(operand.code.replace("@", str(v)), f"prompts - k - {v * W}") for v in range(VECTORS)
        ]
        additions = " ".join(f"s += {term};" for term in terms)
        self.scopes[-1].lines.append(
            f"{{ {VECTOR[operand.type]} s = load({pointer}); {additions} store({pointer}, s); }}"
        )
        self.accumulated = operand, accumulator
        return operand

    def materialise(self, array: Array, *, lazy: bool) -> Array:
        """The array, stored in a buffer unless it is lazy."""
        return array if lazy else self._array(self._buffer(array), array.shape)

    def _array(self, buffer: Buffer, shape: tuple[int, ...], offset: int = 0) -> Array:
        """The array of this shape that a buffer holds from element `offset` on."""
        type = "bool" if buffer.mask else buffer.type
        return Array(shape, type, lambda index: self._loaded(buffer, type, _flat(index, shape) + offset))

    def _loaded(self, buffer: Buffer, type: str, position: Any) -> Operand:
        """An element of a buffer."""
        code = f"{buffer.name}[{code_of(position)}]"
        if buffer.level & PROMPT:
            code = f"load({buffer.name} + ({code_of(position)}) * TILE + @ * W)"
            code = f"({buffer.mask}){code}" if buffer.mask else code
        return self._emit(code, type, buffer.mask, buffer.level, depth_of(position))

    def _buffer(self, array: Array) -> Buffer:
        """A new buffer with the elements of an array, computed region by region."""
        self.arrays += 1
        regions = array.regions or (Region(lambda index: index, array),)
        elements = [self._element(array, region) for region in regions if region.part.size]
        level = level_of([element.operand for element in elements])
        for element in elements:
            if element.accumulator:  # of a sum over prompts, so there is one region
                self._close_into("tile", element)
                accumulator = element.accumulator
                buffer = self._memory(array.type, array.size, accumulator.level)
                loop = f"for (int64_t i = 0; i < {array.size}; i++)"
                zeros = f"{VECTOR[accumulator.type]}{{}}"
                self.sections["member"].append(f"{loop} store({accumulator.name} + i * W, {zeros});")
                self.sections["after"].append(f"{loop} {buffer.name}[i] = total(load({accumulator.name} + i * W));")
                return buffer
        masks = {element.operand.mask for element in elements}
        if level & PROMPT and array.type == "bool" and len(masks) > 1:
            raise NotLowerable("conditions of different kinds in one array")
        [mask] = masks if level & PROMPT and array.type == "bool" else {""}
        type = {"": array.type, "vi": "float", "vl": "double"}[mask]
        buffer = self._memory(type, array.size, level, mask, self.tile if level & PROMPT else 1)
        for element in elements:
            position, code = code_of(element.position), element.operand.code
            line = f"{buffer.name}[{position}] = {code};"
            if level & PROMPT:
                value = f"({VECTOR[type]}){code}" if mask else element.operand.vector
                line = f"store({buffer.name} + ({position}) * TILE + @ * W, {value});"
            element.scopes[-1].lines.append(line)
            self._close_into(self.section(level), element)
        return buffer

    def _element(self, array: Array, region: Region) -> Element:
        """The computation of a generic element of a region, in new loops over the region's axes."""
        self.scopes = [Scope("{")]
        index = self._open(region.part.shape)
        self.position, self.size = _flat(region.into(index), array.shape), array.size
        self.accumulated = None
        operand = self.cast(region.part.at(index), array.type)
        if self.accumulated and self.accumulated[0] is not operand:
            raise NotLowerable("arithmetic in the same operation as a sum over prompts")
        return Element(self.scopes, operand, self.position, self.accumulated[1] if self.accumulated else None)

    def _close_into(self, section: str, element: Element) -> None:
        """Close the element's loops, append them to a section, and extend the live ranges of the buffers they read."""
        self.scopes = element.scopes
        lines = live(self._close(0))
        self.sections[section] += lines
        for name in set(re.findall(r"\bb\d+\b", "\n".join(lines))):
            buffer = self.buffers[int(name[1:])]
            buffer.last_use = self.arrays
            buffer.crosses |= section == "tile" and self.section(buffer.level) == "draw"

    def _open(self, shape: Sequence[int]) -> Index:
        """Open a loop for each axis longer than 1 except the prompts', and return the index of their variables."""
        index: list[Any] = []
        for n in shape:
            if n in (1, PROMPTS):
                index.append(0)
                continue
            self.count += 1
            name = f"i{self.count}"
            index.append(Affine(((Variable(name, n, len(self.scopes)), 1),)))
            self.scopes.append(Scope(f"for (int64_t {name} = 0; {name} < {n}; {name}++) {{"))
        return tuple(index)

    def _close(self, depth: int) -> list[str]:
        """Close the innermost blocks until `depth` of them are open, and return their lines."""
        lines: list[str] = []
        while len(self.scopes) > depth:
            scope = self.scopes.pop()
            lines = [scope.head, *scope.lines, *lines, "}"]
        return lines

    def _memory(self, type: str, size: int, level: int, mask: str = "", lanes: int = 1) -> Buffer:
        """A new buffer, whose live range starts now."""
        name = f"b{len(self.buffers)}"
        self.buffers.append(Buffer(name, type, size, level, mask, lanes, self.arrays, self.arrays))
        return self.buffers[-1]

    def stored(self, name: str, shape: tuple[int, ...], type: str, level: int) -> Array:
        """The array behind the C++ pointer `name`, loaded where its elements are used."""

        def element(index: Index) -> Operand:
            position = ravel(index, shape)
            return self._emit(f"{name}[{code_of(position)}]", type, "", level, depth_of(position))

        return Array(shape, type, element)

    def literal(self, values: Sequence[float], shape: tuple[int, ...], type: str) -> Array:
        """An array of constants: a C++ literal where the index is known, else an entry of a table."""
        table = self._table([constant(x, type).code for x in values], type)

        def element(index: Index) -> Operand:
            position = ravel(index, shape)
            if isinstance(position, Affine):
                return self._emit(f"{table}[{position.code}]", type, "", 0, depth_of(position))
            return constant(values[position], type)

        return Array(shape, type, element)

    def _table(self, values: Sequence[str], type: str) -> str:
        """The name of a constant table of these C++ literals; equal tables share a name."""
        text = f"{type} NAME[] = {{{', '.join(values)}}};"
        return self.tables.setdefault(text, f"c{len(self.tables)}")

    def lookup(self, table: Array, index: Index, size: int) -> Any:
        """An entry of a table of integer constants, modulo `size`: an int where the index is known, else affine."""

        def entry(index: Index) -> int:
            value = table.at(index).value
            if value is None:
                raise NotLowerable("an index that is computed")
            return int(value) % size

        position = ravel(index, table.shape)
        if not isinstance(position, Affine):
            return entry(index)
        entries = [str(entry(i)) for i in product(*(range(n) for n in table.shape))]
        code = f"{self._table(entries, 'int64_t')}[{position.code}]"
        return Affine(((Variable(code, size, depth_of(position)), 1),))

    def drawn(self, kind: str, shape: tuple[int, ...], begin: int) -> Array:
        """Random variates, drawn into a buffer by a loop over counters."""
        first, end = begin // 4, -(-(begin + math.prod(shape[:-1])) // 4)
        self.arrays += 1
        buffer = self._memory("float", 4 * (end - first), PROMPT, lanes=self.tile)
        draw = f"{kind}(philox(index_@, word, {first}u + c, key_2, rounds), z);"
        store = f"for (int i = 0; i < 4; i++) store({buffer.name} + (c * 4 + i) * TILE + @ * W, z[i]);"
        self.sections["draw"] += [f"for (int c = 0; c < {end - first}; c++) {{ vf z[4];", f"{draw} {store}", "}"]
        return self._array(buffer, shape, begin % 4)

    def assign(self, pointer: str, array: Array, type: str) -> None:
        """Emit a loop that copies the array from a buffer."""
        source = self._buffer(array)
        assert not source.level & PROMPT
        line = f"for (int64_t i = 0; i < {array.size}; i++) {pointer}[i] = ({type}){source.name}[i];"
        self.sections["ends"].append(line)

    def assign_by_prompt(self, pointer: str, array: Array) -> None:
        """Emit a loop nest that computes and stores each element."""
        self.arrays += 1
        element = self._element(array, Region(lambda index: index, array))
        row = f"{pointer} + ({code_of(element.position)}) * padded + k + @ * W"
        element.scopes[-1].lines.append(f"store({row}, {element.operand.vector});")
        self._close_into("tile", element)

    def finish(self, scratch: str) -> tuple[str, int]:
        """Complete the sections, and lay out the buffers.

        A buffer that is written in `draw` and read in `tile` has memory for every tile; the others share one copy, and
        those with prompts reuse memory.
        """
        single = [b for b in self.buffers if not b.level & PROMPT]
        crossing = [b for b in self.buffers if b.crosses]
        local = [b for b in self.buffers if b.level & PROMPT and not b.crosses]
        layout, end = consecutive(single, 0)
        reusing, end = first_fit(local, end)
        base = f"char* memory = (char*)(((uint64_t){scratch} + 63) & ~(uint64_t)63);"
        tables = [f"static const {text.replace('NAME', name)}" for text, name in self.tables.items()]
        declarations = [base, *tables, *pointers(layout + reusing, "memory")]
        by_tile, stride = consecutive(crossing, 0)
        tile_pointers = pointers(by_tile, f"memory + {end} + k / TILE * {stride}")
        index = "vu index_@; for (int i = 0; i < W; i++) index_@[i] = begin + k + @ * W + i;"
        self.sections["draw"][:0] = [*tile_pointers, index]
        self.sections["tile"][:0] = tile_pointers
        for name, lines in self.sections.items():
            self.sections[name] = [copy for line in lines for copy in for_each_vector(line)]
        return "\n".join(declarations), end + stride * (self.padded // self.tile) + 64


def _flat(index: Index, shape: tuple[int, ...]) -> Any:
    """The position of an element in the flat array, prompts aside."""
    axes = [(i, n) for i, n in zip(index, shape, strict=True) if n != PROMPTS]
    return ravel([i for i, _ in axes], [n for _, n in axes])
