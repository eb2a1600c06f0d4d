"""Code of a device's threads: what a prompt has is in registers, an expression for each element, as in `unrolled.py`;
what a member has is in memory, with loops that the threads share, as in `looped.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

from .affine import loops_of, ravel
from .buffers import Buffer
from .builder import after
from .ir import PROMPT, PROMPTS, Array, Expr, Index, Memory, Section, level_of, section_of, whole_prompts
from .looped import Looped
from .statements import Nest
from .unrolled import TooLong


class _Numbered(Exception):
    """An element that only a number finds was asked for by a loop variable."""


class Registers(Looped):
    """Makes an expression for every element that a prompt has, at most `limit`; for other arrays nests of loops."""

    def __init__(self, prompts: int, limit: int) -> None:
        super().__init__(prompts)
        self.limit, self.count = limit, 0
        self.sums: dict[str, dict[int, tuple[int, Expr]]] = {}  # over prompts: place and term, by type and its number
        self.totals: dict[str, Memory] = {}  # where they are, by type
        self.outputs: list[tuple[Memory, int, Expr]] = []  # what is stored of each prompt, and where
        self.noted: dict[int, str] = {}  # the model's lines, by the number of the expression that they are written as

    def made(self, expr: Expr) -> Expr:
        """The expression; raises TooLong where prompts have too many."""
        self.count += bool(expr.level & PROMPT)
        if self.count > self.limit:
            raise TooLong
        self.noted[expr.number] = self.line
        return expr

    def sum(self, ranges: Sequence[range], term: Callable[[Index], Expr], type: str) -> Expr:
        """The sum of the terms, by loops, or one by one where they are in registers."""
        try:
            return super().sum(ranges, term, type)
        except _Numbered:
            return self.add([term(index) for index in product(*ranges)], type)

    def over_prompts(self, expr: Expr) -> Expr:
        """The sum of an expression over all prompts."""
        if not expr.level & PROMPT:
            return self.repeated(expr)
        places = self.sums.setdefault(expr.type, {})
        place, _ = places.setdefault(expr.number, (len(places), expr))
        totals = self.totals.setdefault(expr.type, Memory(f"totals_{expr.type}", expr.type, 0, after(expr.level)))
        totals.size = len(places)
        return self.load(totals, place)

    def materialise(self, array: Array, *, lazy: bool) -> Array:
        """The array, in registers if it has prompts; else stored, unless it is lazy."""
        if PROMPTS in array.shape:
            return self._in_registers(array)
        if lazy or array.memory:
            return array
        try:
            if array.size == 1 and self._place(elements := self._numbered(array)):
                return self._totals(array, elements)
            return super().materialise(array, lazy=False)
        except _Numbered:
            elements = self._numbered(array)
            return self._totals(array, elements) if self._place(elements) else self._listed(array, elements)

    def _in_registers(self, array: Array) -> Array:
        if array.size > self.limit:
            raise TooLong
        elements = dict(zip(array.indices, self._numbered(array), strict=True))

        def element(index: Index) -> Expr:
            _numbers(index)
            whole_prompts(index, array.shape)
            return elements[index]

        return Array(array.shape, array.type, element)

    def _numbered(self, array: Array) -> list[Expr]:
        """Its elements, one by one."""
        return [array.at(index) for index in array.indices]

    def _place(self, elements: Sequence[Expr]) -> bool:
        """Whether the elements are sums over prompts that lie one after the other."""
        loads = [expr.place for expr in elements if expr.op == "load"]
        if not loads or len(loads) < len(elements):
            return False
        memory, first = loads[0]
        return memory in self.totals.values() and loads == [(memory, first + i) for i in range(len(loads))]

    def _totals(self, array: Array, elements: Sequence[Expr]) -> Array:
        memory, first = elements[0].place
        assert isinstance(first, int)
        shape = array.shape
        return Array(shape, memory.type, lambda index: self.load(memory, ravel(index, shape) + first))

    def _listed(self, array: Array, elements: Sequence[Expr]) -> Array:
        """The array in a buffer, to which its elements are written one by one."""
        level = level_of(elements)
        buffer = Buffer(self._name(), array.type, array.size, level)
        for n, expr in enumerate(elements):
            self.statements.append(Nest(section_of(level), buffer, (), n, self.cast(expr, array.type), self.line))
        return self._array(buffer, array.shape)

    def drawn(self, kind: str, begin: int, shape: Sequence[int]) -> Array:
        """Random variates, four to a counter."""

        def element(index: Index) -> Expr:
            _numbers(index)
            place = divmod(begin + ravel(index[1:-1], shape[1:-1]), 4)
            return self.expr("variate", (), "float", detail=(kind, *place), level=PROMPT)

        return Array(tuple(shape), "float", element)

    def assign(self, memory: Memory, array: Array, section: Section) -> None:
        """Store an array in memory of the caller."""
        if section == "tile":
            self.outputs += [(memory, n, expr) for n, expr in enumerate(self._numbered(array))]
        else:
            super().assign(memory, self.materialise(array, lazy=False), section)


def _numbers(index: Sequence[Any]) -> None:
    if any(loops_of(i) for i in index):
        raise _Numbered
