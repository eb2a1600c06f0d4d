"""Arrays in memory: a step as loops over their elements, for what is too large to write out element by element.

A tile of prompts runs through all operations, so that what one leaves for the next is still in the cache. An array that
is used once, element by element, is never held at all: it is computed where it is used. What a loop does not change is
computed outside of it. Several vectors of prompts go side by side, so that a sum over an axis does not wait for
itself: a line with an @ is written once for each of them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from .affine import Place, Variable, code_of, depth_of, ravel
from .buffers import Buffer, pointers, reusing, side_by_side
from .ir import (
    AFTER,
    MEMBER,
    PROMPT,
    PROMPTS,
    VECTOR,
    Array,
    Atom,
    Index,
    NotLowerable,
    Region,
    W,
    Writer,
    constant,
    level_of,
)

VECTORS = 4  # side by side


@dataclass
class Scope:
    """A loop that is being written."""

    head: str
    lines: list[str] = field(default_factory=list)
    names: dict[str, Atom] = field(default_factory=dict)


@dataclass
class Element:
    """An element of an array, written into loops that are still open."""

    scopes: list[Scope]
    atom: Atom
    place: Any
    summed: Buffer | None


class Loops(Writer):
    """Writes a loop for every axis of every array that is held."""

    def __init__(self, prompts: int) -> None:
        super().__init__(prompts, VECTORS * W)
        self.buffers: list[Buffer] = []
        self.tables: dict[str, str] = {}  # of known numbers, and their names
        self.scopes: list[Scope] = []
        self.made = 0  # arrays so far
        self.place: Any = 0  # of the element that is being written, and in how many
        self.size = 0
        self.summed: tuple[Atom, Buffer] | None = None  # its sum over prompts, and the lanes that hold it

    def write(self, code: str, of: Sequence[Atom], type: str, mask: str = "", level: int | None = None) -> Atom:
        """Outside of all loops that do not change it."""
        depth = max((atom.depth for atom in of), default=0)
        return self._write(code, type, mask, level_of(of) if level is None else level, depth)

    def _write(self, code: str, type: str, mask: str, level: int, depth: int) -> Atom:
        scope = self.scopes[depth]
        if code not in scope.names:
            atom = scope.names[code] = Atom(self._name(level), type, level, mask=mask, depth=depth)
            scope.lines.append(f"const {atom.declared} {atom.code} = {code};")
        return scope.names[code]

    def _name(self, level: int) -> str:
        self.count += 1
        return f"t{self.count}_@" if level & PROMPT else f"t{self.count}"

    def use(self, atom: Atom, level: int) -> Atom:
        """As it is."""
        return atom

    def sum(self, ranges: Sequence[range], term: Callable[[Index], Atom], type: str) -> Atom:
        """A loop inside those that are open."""
        if not all(ranges):
            return constant(0.0, type)
        outer = len(self.scopes)
        atom = term(self._open([len(r) for r in ranges]))
        if atom.value is not None:
            self._close(outer)
            return constant(atom.value * math.prod(len(r) for r in ranges), type)
        if len(self.scopes) == outer:
            return atom
        total = Atom(self._name(atom.level), type, atom.level, depth=outer - 1)
        self.scopes[-1].lines.append(f"{total.code} += {atom.code};")
        loops = self._close(outer)
        self.scopes[-1].lines += [f"{total.declared} {total.code}{{}};", *loops]
        return total

    def over_prompts(self, atom: Atom) -> Atom:
        """Accumulated in as many lanes as a vector has; `_buffer` takes their total."""
        if not atom.level & PROMPT:
            return self.binary("*", atom, constant(self.prompts, atom.type))
        lanes = self._memory(atom.type, self.size, (atom.level & ~PROMPT) | MEMBER | AFTER, lanes=W)
        place = f"{lanes.name} + ({code_of(self.place)}) * W"
        parts = [self.seen(atom.code.replace("@", str(v)), f"prompts - k - {v * W}") for v in range(VECTORS)]
        added = " ".join(f"s += {part};" for part in parts)
        self.scopes[-1].lines.append(f"{{ {VECTOR[atom.type]} s = load({place}); {added} store({place}, s); }}")
        self.summed = atom, lanes
        return atom

    def hold(self, array: Array, *, lazy: bool) -> Array:
        """In memory, unless it is lazy."""
        return array if lazy else self._array(self._buffer(array), array.shape)

    def _array(self, buffer: Buffer, shape: tuple[int, ...], offset: int = 0) -> Array:
        def at(index: Index) -> Atom:
            place = _flat(index, shape) + offset
            code = f"{buffer.name}[{code_of(place)}]"
            if buffer.level & PROMPT:
                code = f"load({buffer.name} + ({code_of(place)}) * TILE + @ * W)"
                code = f"({buffer.mask}){code}" if buffer.mask else code
            type = "bool" if buffer.mask else buffer.type
            return self._write(code, type, buffer.mask, buffer.level, depth_of(place))

        return Array(shape, "bool" if buffer.mask else buffer.type, at)

    def _buffer(self, array: Array) -> Buffer:
        """Compute an array into memory of its own, part by part."""
        self.made += 1
        regions = array.regions or (Region(lambda index: index, array),)
        elements = [self._element(array, region) for region in regions if region.part.size]
        level = level_of([element.atom for element in elements])
        for element in elements:
            if element.summed:  # over prompts, so there is one part
                self._section("tile", element)
                lanes = element.summed
                buffer = self._memory(array.type, array.size, lanes.level)
                each = f"for (int64_t i = 0; i < {array.size}; i++)"
                self.sections["member"].append(f"{each} store({lanes.name} + i * W, {VECTOR[lanes.type]}{{}});")
                self.sections["after"].append(f"{each} {buffer.name}[i] = total(load({lanes.name} + i * W));")
                return buffer
        masks = {element.atom.mask for element in elements}
        if level & PROMPT and array.type == "bool" and len(masks) > 1:
            raise NotLowerable("conditions of different kinds in one array")
        [mask] = masks if level & PROMPT and array.type == "bool" else {""}
        type = {"": array.type, "vi": "float", "vl": "double"}[mask]
        buffer = self._memory(type, array.size, level, mask, self.tile if level & PROMPT else 1)
        for element in elements:
            place, code = code_of(element.place), element.atom.code
            line = f"{buffer.name}[{place}] = {code};"
            if level & PROMPT:
                held = f"({VECTOR[type]}){code}" if mask else element.atom.wide
                line = f"store({buffer.name} + ({place}) * TILE + @ * W, {held});"
            element.scopes[-1].lines.append(line)
            self._section(self.section(level), element)
        return buffer

    def _element(self, array: Array, region: Region) -> Element:
        self.scopes = [Scope("{")]
        index = self._open(region.part.shape)
        self.place, self.size = _flat(region.into(index), array.shape), array.size
        self.summed = None
        atom = self.cast(region.part.at(index), array.type)
        if self.summed and self.summed[0] is not atom:
            raise NotLowerable("arithmetic in the same operation as a sum over prompts")
        return Element(self.scopes, atom, self.place, self.summed[1] if self.summed else None)

    def _section(self, section: str, element: Element) -> None:
        """The element's loops, closed, into a section."""
        self.scopes = element.scopes
        lines = _live(self._close(0))
        self.sections[section] += lines
        for name in set(re.findall(r"\bb\d+\b", "\n".join(lines))):
            buffer = self.buffers[int(name[1:])]
            buffer.used = self.made
            buffer.crosses |= section == "tile" and self.section(buffer.level) == "draw"

    def _open(self, shape: Sequence[int]) -> Index:
        """A loop for each axis that has a length, and the index in them."""
        index: list[Any] = []
        for n in shape:
            if n in (1, PROMPTS):
                index.append(0)
                continue
            self.count += 1
            name = f"i{self.count}"
            index.append(Place(((Variable(name, n, len(self.scopes)), 1),)))
            self.scopes.append(Scope(f"for (int64_t {name} = 0; {name} < {n}; {name}++) {{"))
        return tuple(index)

    def _close(self, left: int) -> list[str]:
        """The innermost loops, down to so many that stay open, as lines."""
        lines: list[str] = []
        while len(self.scopes) > left:
            scope = self.scopes.pop()
            lines = [scope.head, *scope.lines, *lines, "}"]
        return lines

    def _memory(self, type: str, size: int, level: int, mask: str = "", lanes: int = 1) -> Buffer:
        name = f"b{len(self.buffers)}"
        self.buffers.append(Buffer(name, type, size, level, mask, lanes, self.made, self.made))
        return self.buffers[-1]

    def stored(self, name: str, shape: tuple[int, ...], type: str, level: int) -> Array:
        """Read where its elements are used."""

        def at(index: Index) -> Atom:
            place = ravel(index, shape)
            return self._write(f"{name}[{code_of(place)}]", type, "", level, depth_of(place))

        return Array(shape, type, at)

    def literal(self, values: Any, shape: tuple[int, ...], type: str) -> Array:
        """A table, and constants where the place is known."""
        flat = _flattened(values)
        table = self._table([constant(x, type).code for x in flat], type)

        def at(index: Index) -> Atom:
            place = ravel(index, shape)
            if isinstance(place, Place):
                return self._write(f"{table}[{place.code}]", type, "", 0, depth_of(place))
            return constant(flat[place], type)

        return Array(shape, type, at)

    def _table(self, values: Sequence[str], type: str) -> str:
        text = f"{type} NAME[] = {{{', '.join(values)}}};"
        return self.tables.setdefault(text, f"c{len(self.tables)}")

    def lookup(self, table: Array, index: Index, size: int) -> Any:
        """A number where the place is known, else an entry of a table."""

        def known(index: Index) -> int:
            value = table.at(index).value
            if value is None:
                raise NotLowerable("an index that is computed")
            return int(value) % size

        place = ravel(index, table.shape)
        if not isinstance(place, Place):
            return known(index)
        entries = [str(known(i)) for i in product(*(range(n) for n in table.shape))]
        entry = f"{self._table(entries, 'int64_t')}[{place.code}]"
        return Place(((Variable(entry, size, depth_of(place)), 1),))

    def drawn(self, kind: str, shape: tuple[int, ...], begin: int) -> Array:
        """A loop over counters."""
        first, end = begin // 4, -(-(begin + math.prod(shape[:-1])) // 4)
        self.made += 1
        buffer = self._memory("float", 4 * (end - first), PROMPT, lanes=self.tile)
        draw = f"{kind}(philox(index_@, word, {first}u + c, key_2, rounds), z);"
        keep = f"for (int i = 0; i < 4; i++) store({buffer.name} + (c * 4 + i) * TILE + @ * W, z[i]);"
        self.sections["draw"] += [f"for (int c = 0; c < {end - first}; c++) {{ vf z[4];", f"{draw} {keep}", "}"]
        return self._array(buffer, shape, begin % 4)

    def assign(self, pointer: str, array: Array, type: str) -> None:
        """A copy from where it is held."""
        held = self._buffer(array)
        assert not held.level & PROMPT
        line = f"for (int64_t i = 0; i < {array.size}; i++) {pointer}[i] = ({type}){held.name}[i];"
        self.sections["ends"].append(line)

    def kept(self, place: str, array: Array) -> None:
        """A loop over elements."""
        self.made += 1
        element = self._element(array, Region(lambda index: index, array))
        where = f"{place} + ({code_of(element.place)}) * padded + k + @ * W"
        element.scopes[-1].lines.append(f"store({where}, {element.atom.wide});")
        self._section("tile", element)

    def finish(self, scratch: str) -> tuple[str, int]:
        """What is drawn in one loop and read in another has a place for every tile; the rest is used again."""
        single = [b for b in self.buffers if not b.level & PROMPT]
        crossing = [b for b in self.buffers if b.crosses]
        local = [b for b in self.buffers if b.level & PROMPT and not b.crosses]
        places, end = side_by_side(single, 0)
        reused, end = reusing(local, end)
        base = f"char* memory = (char*)(((uint64_t){scratch} + 63) & ~(uint64_t)63);"
        tables = [f"static const {text.replace('NAME', name)}" for text, name in self.tables.items()]
        once = [base, *tables, *pointers(places + reused, "memory")]
        rows, stride = side_by_side(crossing, 0)
        each = pointers(rows, f"memory + {end} + k / TILE * {stride}")
        index = "vu index_@; for (int i = 0; i < W; i++) index_@[i] = begin + k + @ * W + i;"
        self.sections["draw"][:0] = [*each, index]
        self.sections["tile"][:0] = each
        for name, lines in self.sections.items():
            self.sections[name] = [copy for line in lines for copy in _copies(line)]
        return "\n".join(once), end + stride * (self.padded // self.tile) + 64


def _flat(index: Index, shape: tuple[int, ...]) -> Any:
    """The place of an element, prompts aside."""
    kept = [(i, n) for i, n in zip(index, shape, strict=True) if n != PROMPTS]
    return ravel([i for i, _ in kept], [n for _, n in kept])


def _copies(line: str) -> list[str]:
    """A line for each vector of the tile, where they differ."""
    return [line.replace("@", str(v)) for v in range(VECTORS)] if "@" in line else [line]


def _live(lines: list[str]) -> list[str]:
    """Without values that no later line uses."""
    found: list[str] = []
    used: set[str] = set()
    for line in reversed(lines):
        names = re.findall(r"\bt(\d+)", line)
        if line.startswith("const ") and names[0] not in used:
            continue
        used.update(names)
        found.append(line)
    return found[::-1]


def _flattened(values: Any) -> list[Any]:
    return [x for part in values for x in _flattened(part)] if isinstance(values, list) else [values]
