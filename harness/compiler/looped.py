"""Looped code: arrays in memory, and a nest of loops for each, for steps too large to unroll.

A tile of prompts passes through all nests, so that what one of them leaves is in the cache for the next. An array that
is used once, element by element, is never stored but computed in the nest that uses it. Sums over prompts wait until a
block of tiles has passed: then an accumulator is read and written once for all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

from .affine import Affine, Position, Variable, loops_of, ravel
from .buffers import Buffer
from .builder import Builder, after
from .ir import PROMPT, PROMPTS, Array, Expr, Index, Memory, NotLowerable, Region, Section, section_of, whole_prompts
from .statements import Draw, Nest, Statement, SymmetricProduct, Totals
from .symmetry import Product, is_symmetric, symmetric_products

_Element = tuple[tuple[Variable, ...], Position, Expr]  # loops over a region, the position in the whole array, a value


class Looped(Builder):
    """Makes a nest of loops for every array that is stored, with a loop for each of its axes."""

    def __init__(self, prompts: int) -> None:
        super().__init__(prompts)
        self.statements: list[Statement] = []
        self.constants: dict[tuple[str, tuple[float, ...]], Memory] = {}  # arrays of constants
        self.symmetric: dict[Memory, int] = {}  # matrices, with their number of rows
        self.loops = self.buffers = 0  # so far

    def sum(self, ranges: Sequence[range], term: Callable[[Index], Expr], type: str) -> Expr:
        """The sum of the terms, by a loop for each range."""
        if not all(ranges):
            return self.constant(0.0, type)
        index = self._loops([len(r) for r in ranges])
        expr = term(index)
        loops = tuple(v for i in index for v in sorted(loops_of(i), key=lambda v: v.name))
        if expr.value is not None:
            return self.constant(expr.value * math.prod(len(r) for r in ranges), type)
        return self.expr("sum", (expr,), type, detail=loops) if loops else expr

    def _loops(self, shape: Sequence[int]) -> Index:
        """An index of new loop variables, one for each axis longer than 1 except the prompts'."""
        index: list[Any] = []
        for n in shape:
            if n in (1, PROMPTS):
                index.append(0)
                continue
            self.loops += 1
            index.append(Affine(((Variable(f"i{self.loops}", n), 1),)))
        return tuple(index)

    def over_prompts(self, expr: Expr) -> Expr:
        """The sum of an expression over all prompts."""
        if not expr.level & PROMPT:
            return self.repeated(expr)
        return self.expr("total", (expr,), expr.type, level=after(expr.level))

    def materialise(self, array: Array, *, lazy: bool) -> Array:
        """The array, stored in a buffer unless it is lazy, or the same number everywhere."""
        if lazy or array.memory:
            return array
        elements = self._elements(array)
        if not array.regions and elements and (value := elements[0][2]).op == "const":
            return Array(array.shape, array.type, lambda index: value)
        return self._array(self._stored(array, elements), array.shape)

    def _array(self, memory: Memory, shape: tuple[int, ...], offset: int = 0) -> Array:
        """The array of this shape that is in memory from element `offset` on."""
        type = "bool" if memory.compared else memory.type
        whole = memory if not offset and math.prod(n for n in shape if n != PROMPTS) == memory.size else None
        return Array(shape, type, lambda index: self.load(memory, _flat(index, shape) + offset), memory=whole)

    def _stored(self, array: Array, elements: Sequence[_Element]) -> Buffer:
        """A new buffer with the elements of an array, computed region by region."""
        level = 0
        for _, _, value in elements:
            level |= value.level
        bools = (value.compared for _, _, value in elements if value.type == "bool" and value.level & PROMPT)
        compared = next(bools, "")
        buffer = Buffer(self._name(), compared or array.type, array.size, level, compared)
        if len(elements) == 1 and is_symmetric(self, *elements[0]):
            self.symmetric[buffer] = elements[0][0][0].size
        for axes, position, value in elements:
            memory = buffer
            value = self._with_products(axes, value)
            if not array.regions and value.op == "load":
                source, place = value.place
                if isinstance(source, Buffer) and source.size == array.size and place == position:
                    return source  # a copy of it is not needed
            if value.op == "total":
                memory = Buffer(self._name(), array.type, array.size, level, accumulates=True)
            self.statements.append(Nest(section_of(level), memory, axes, position, value, self.line))
            if memory is not buffer:
                self.statements.append(Totals("after", buffer, memory, self.line))
        return buffer

    def _with_products(self, axes: tuple[Variable, ...], value: Expr) -> Expr:
        """The value with loads in place of products of a symmetric matrix and a vector, which become statements."""
        others: dict[int, Expr] = {}
        for expr, found in symmetric_products(self.symmetric, axes, value):
            vector = self._vector(found)
            result = Buffer(self._name(), expr.type, found.n, expr.level)
            statement = SymmetricProduct(section_of(expr.level), result, found.matrix, *vector, found.n, self.line)
            self.statements.append(statement)
            others[expr.number] = self.load(result, Affine(((axes[0], 1),)))
        return self.replaced(value, {}, others) if others else value

    def _vector(self, found: Product) -> tuple[Memory, int]:
        """The memory of a vector, and where it starts there."""
        if found.place:
            return found.place
        vector = Buffer(self._name(), found.vector.type, found.n, found.vector.level)
        position = Affine(((found.loop, 1),))
        self.statements.append(Nest(section_of(vector.level), vector, (found.loop,), position, found.vector, self.line))
        return vector, 0

    def _name(self) -> str:
        """The name of a new buffer."""
        self.buffers += 1
        return f"b{self.buffers}"

    def _elements(self, array: Array) -> list[_Element]:
        """An element of each region of an array."""
        regions = array.regions or (Region(lambda index: index, array),)
        return [self._element(array, region) for region in regions if region.part.size]

    def _element(self, array: Array, region: Region) -> _Element:
        """The loops over the elements of a region, the position of one in the whole array, and its value."""
        self.loops = 0  # named anew in every nest, so that equal nests have the same text
        index = self._loops(region.part.shape)
        axes = tuple(v for i in index for v in sorted(loops_of(i), key=lambda v: v.name))
        value = self.cast(region.part.at(index), array.type)
        return axes, _flat(region.into(index), array.shape), value

    def stored(self, memory: Memory, shape: tuple[int, ...]) -> Array:
        """An input of the step, loaded where its elements are used."""
        return self._array(memory, shape)

    def literal(self, values: Sequence[float], shape: tuple[int, ...], type: str) -> Array:
        """An array of constants: a number where the index is known, else an entry of a table."""
        key = type, tuple(values)
        memory = self.constants.setdefault(key, Memory(f"c{len(self.constants)}", type, len(values), 0))

        def element(index: Index) -> Expr:
            position = ravel(index, shape)
            return self.load(memory, position) if loops_of(position) else self.constant(values[position], type)

        return Array(shape, type, element)

    def lookup(self, table: Array, index: Index, size: int) -> Any:
        """An entry of a table of integer constants, modulo `size`: an int where the index is known, else affine."""

        def entry(index: Index) -> int:
            value = table.at(index).value
            if value is None:
                raise NotLowerable("an index that is computed")
            return int(value) % size

        position = ravel(index, table.shape)
        if not loops_of(position):
            return entry(index)
        entries = tuple(entry(i) for i in product(*(range(n) for n in table.shape)))
        name = next((name for name, known in self.tables.items() if known == entries), f"n{len(self.tables)}")
        self.tables[name] = entries
        return Affine(((Variable(name, size, "entry", position), 1),))

    def drawn(self, kind: str, begin: int, shape: Sequence[int]) -> Array:
        """Random variates, drawn into a buffer by a loop over counters."""
        first, end = begin // 4, -(-(begin + math.prod(shape[:-1])) // 4)
        buffer = Buffer(self._name(), "float", 4 * (end - first), PROMPT)
        self.statements.append(Draw("draw", buffer, kind, first, end - first, self.line))
        return self._array(buffer, tuple(shape), begin % 4)

    def assign(self, memory: Memory, array: Array, section: Section) -> None:
        """A nest that stores each element; one without prompts reads it from a buffer, as all are stored at the end."""
        if not array.size:
            return
        if section == "ends" and not isinstance(array.memory, Buffer):
            array = self._array(self._stored(array, self._elements(array)), array.shape)
        axes, position, value = self._element(array, Region(lambda index: index, array))
        if section == "ends":
            value = self.cast(value, memory.type)
        else:
            section_of(value.level)  # refuses prompts that meet a sum over prompts
        self.statements.append(Nest(section, memory, axes, position, value, self.line))


def _flat(index: Index, shape: tuple[int, ...]) -> Any:
    """The position of an element in the flat array, prompts aside."""
    whole_prompts(index, shape)
    axes = [(i, n) for i, n in zip(index, shape, strict=True) if n != PROMPTS]
    return ravel([i for i, _ in axes], [n for _, n in axes])
