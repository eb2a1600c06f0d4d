"""Arrays as so many names: a step as one straight line, where what was an array in memory becomes a register.

The same expression is written once. Prompts are taken eight at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from .affine import ravel
from .ir import AFTER, MEMBER, PROMPT, VECTOR, Array, Atom, Index, NotLowerable, W, Writer, constant, level_of


class TooLong(Exception):
    """The straight line has more lines than are allowed."""


class Scalars(Writer):
    """Writes every element of every array."""

    opening = "#define STRAIGHT_LINE\n"

    def __init__(self, prompts: int, longest: int) -> None:
        super().__init__(prompts, W)
        self.longest = longest
        self.names: dict[Any, Atom] = {}
        self.accumulators: list[str] = []
        self.frontier: dict[str, str] = {}  # values of `draw` that `tile` needs, and how it reads them
        self.rows: dict[str, int] = {"float": 0, "double": 0}

    def write(self, code: str, of: Sequence[Atom], type: str, mask: str = "", level: int | None = None) -> Atom:
        """By a name of its own, in the section it belongs to."""
        level = level_of(of) if level is None else level
        if code not in self.names:
            self.count += 1
            if self.count > self.longest:
                raise TooLong
            atom = self.names[code] = Atom(f"t{self.count}", type, level, mask=mask)
            self.sections[self.section(level)].append(f"const {atom.declared} {atom.code} = {code};")
        return self.names[code]

    def use(self, atom: Atom, level: int) -> Atom:
        """What `draw` made is read back from memory in `tile`."""
        if atom.value is not None or self.section(level) != "tile" or self.section(atom.level) != "draw":
            return atom
        if atom.code not in self.frontier:  # a condition travels as the bits of a number
            held = {"vi": "float", "vl": "double"}.get(atom.mask, atom.type)
            row = self.rows[held]
            self.rows[held] += 1
            place = f"drawn_{held} + {row} * padded + k"
            self.sections["draw"].append(f"store({place}, ({VECTOR[held]}){atom.code});")
            self.frontier[atom.code] = f"const {atom.declared} d_{atom.code} = ({atom.declared})load({place});"
        return replace(atom, code=f"d_{atom.code}")

    def sum(self, ranges: Sequence[range], term: Callable[[Index], Atom], type: str) -> Atom:
        """From the left."""
        return self.add([term(index) for index in product(*ranges)], type)

    def over_prompts(self, atom: Atom) -> Atom:
        """In a vector that the tiles add to."""
        if not atom.level & PROMPT:
            return self.binary("*", atom, constant(self.prompts, atom.type))
        key = ("sum", atom.code)
        if key not in self.names:
            level = atom.level | MEMBER
            name = f"s{len(self.accumulators)}"
            self.accumulators.append(f"{VECTOR[atom.type]} {name}")
            added = self.use(atom, level).code
            self.sections["tile"].append(f"{name} += {self.seen(added, 'prompts - k')};")
            self.names[key] = self.write(f"total({name})", [], atom.type, level=(level & ~PROMPT) | AFTER)
        return self.names[key]

    def hold(self, array: Array, *, lazy: bool) -> Array:
        """Always now: what is not used the C++ compiler drops."""
        if array.size > self.longest:
            raise TooLong
        known = {index: array.at(index) for index in array.indices}
        return Array(array.shape, array.type, known.__getitem__)

    def stored(self, name: str, shape: tuple[int, ...], type: str, level: int) -> Array:
        """Read element by element."""
        return Array(shape, type, lambda index: self.write(f"{name}[{ravel(index, shape)}]", [], type, level=level))

    def literal(self, values: Any, shape: tuple[int, ...], type: str) -> Array:
        """Constants."""

        def at(index: Index) -> Atom:
            found = values
            for i in index:
                found = found[i]
            return constant(found, type)

        return Array(shape, type, at)

    def lookup(self, table: Array, index: Index, size: int) -> int:
        """Known now."""
        place = table.at(index).value
        if place is None:
            raise NotLowerable("an index that is computed")
        return int(place) % size

    def drawn(self, kind: str, shape: tuple[int, ...], begin: int) -> Array:
        """Four names a counter."""

        def at(index: Index) -> Atom:
            counter, lane = divmod(begin + ravel(index[1:-1], shape[1:-1]), 4)
            words = f"philox(index, word, {counter}u, key_2, rounds)"
            name = f"z{counter}"
            if ("drawn", name) not in self.names:
                self.names["drawn", name] = Atom(name, "float", PROMPT)
                self.sections["draw"].append(f"vf {name}[4]; {kind}({words}, {name});")
            return self.write(f"{name}[{lane}]", [], "float", level=PROMPT)

        return Array(shape, "float", at)

    def assign(self, pointer: str, array: Array, type: str) -> None:
        """An assignment for each element."""
        for n, index in enumerate(array.indices):
            self.sections["ends"].append(f"{pointer}[{n}] = {self.cast(array.at(index), type).code};")

    def kept(self, place: str, array: Array) -> None:
        """A store for each element."""
        for n, index in enumerate(array.indices):
            value = self.use(array.at(index), MEMBER | PROMPT).wide
            self.sections["tile"].append(f"store({place} + {n} * padded + k, {value});")

    def finish(self, scratch: str) -> tuple[str, int]:
        """Rows of numbers, one for each value that is drawn in one loop and read in another."""
        self.sections["draw"][:0] = ["vu index; for (int i = 0; i < W; i++) index[i] = begin + k + i;"]
        self.sections["tile"][:0] = self.frontier.values()
        self.sections["member"] += [f"{name}{{}};" for name in self.accumulators]
        doubles, floats = self.rows["double"] * self.padded, self.rows["float"] * self.padded
        pointers = (
            f"double* drawn_double = (double*){scratch};\nfloat* drawn_float = (float*)(drawn_double + {doubles});"
        )
        return pointers, 8 * doubles + 4 * floats
