"""Scalars of a step as C++, each in the place of the loop nest that its inputs force on it.

    job { step { draw: prompts } rate { member { tile: prompts } after } }

A value that depends on nothing but the job is computed once; one that also depends on a prompt, for every prompt; and
so on. What is known to be 0 or 1 is not written at all. Arithmetic on scalars is here; how arrays of them are held,
as so many names (`scalars.py`) or in memory (`loops.py`), is a writer's own business.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch

PROMPTS = 15_485_863  # the length of the prompts axis in a trace: a prime that no other axis has
W = 8  # prompts side by side in a vector

MEMBER, PROMPT, AFTER = 2, 4, 8  # what a value depends on; AFTER: on a sum over prompts
PLACE = {torch.float32: "float", torch.float64: "double", torch.bool: "bool", torch.int64: "int64_t"}
VECTOR = {"float": "vf", "double": "vd"}

Index = tuple[Any, ...]  # an int, or an expression of loop variables, for each axis but the prompts'


class NotLowerable(Exception):
    """The step holds something this file has no way to write; it says what."""


@dataclass(frozen=True)
class Atom:
    """A scalar of the step, or eight of them: C++ to name it, its type, and what it depends on."""

    code: str
    type: str  # float, double, bool, int64_t
    level: int = 0
    value: float | None = None  # where it is a constant
    mask: str = ""  # vi or vl: how a bool of eight prompts is held
    depth: int = 0  # of the loop it is known in

    @property
    def declared(self) -> str:
        """Its C++ type."""
        if not self.level & PROMPT:
            return self.type
        return self.mask if self.type == "bool" else VECTOR[self.type]

    @property
    def wide(self) -> str:
        """The value for every prompt of a vector, whatever it depends on."""
        return self.code if self.level & PROMPT else f"({VECTOR[self.type]}{{}} + {self.code})"


def constant(value: float, type: str) -> Atom:
    """A literal."""
    if type in ("bool", "int64_t"):
        return Atom(str(int(value)), type, 0, value)
    text = {math.inf: "__builtin_inf()", -math.inf: "-__builtin_inf()"}.get(value, repr(float(value)))
    return Atom('__builtin_nan("")' if value != value else f"{type}({text})", type, 0, value)


@dataclass(frozen=True)
class Array:
    """A tensor of the step: `at` gives its element at an index, an entry per axis; the prompts' entry means nothing."""

    shape: tuple[int, ...]
    type: str
    at: Callable[[Index], Atom]
    regions: tuple[Region, ...] = ()  # the arrays that it is made of, where it is; a later one covers an earlier one

    @property
    def size(self) -> int:
        """Elements, prompts aside."""
        return math.prod(n for n in self.shape if n != PROMPTS)

    @property
    def indices(self) -> Iterator[Index]:
        """Every index."""
        return product(*(range(n) if n != PROMPTS else (0,) for n in self.shape))


@dataclass(frozen=True)
class Region:
    """A part of an array: `into` gives where an index of the part stands in the whole."""

    into: Callable[[Index], Index]
    part: Array


class Writer(ABC):
    """Writes the values of a step, each into its section of the loop nest."""

    opening = ""  # what the prelude should know

    def __init__(self, prompts: int, tile: int) -> None:
        self.prompts, self.tile = prompts, tile  # of a step, and at a time
        self.padded = -(-prompts // tile) * tile
        self.sections: dict[str, list[str]] = {name: [] for name in ("job", "draw", "member", "tile", "after", "ends")}
        self.count = 0

    @abstractmethod
    def write(self, code: str, of: Sequence[Atom], type: str, mask: str = "", level: int | None = None) -> Atom:
        """The value of an expression, named; the same expression is written once."""

    @abstractmethod
    def sum(self, ranges: Sequence[range], term: Callable[[Index], Atom], type: str) -> Atom:
        """The sum of a term over all indices in these ranges."""

    @abstractmethod
    def over_prompts(self, atom: Atom) -> Atom:
        """The sum over all prompts of a step: accumulated in `tile`, known in `after`."""

    @abstractmethod
    def hold(self, array: Array, *, lazy: bool) -> Array:
        """The same array, its elements computed now, or later where they are used (lazy)."""

    @abstractmethod
    def stored(self, name: str, shape: tuple[int, ...], type: str, level: int) -> Array:
        """An array that C++ has a pointer to."""

    @abstractmethod
    def literal(self, values: Any, shape: tuple[int, ...], type: str) -> Array:
        """Known numbers: nested lists."""

    @abstractmethod
    def lookup(self, table: Array, index: Index, size: int) -> Any:
        """An entry of a table of whole numbers, each less than `size`, as part of an index."""

    @abstractmethod
    def drawn(self, kind: str, shape: tuple[int, ...], begin: int) -> Array:
        """Variates `begin` and following of each prompt, four to a counter."""

    @abstractmethod
    def assign(self, pointer: str, array: Array, type: str) -> None:
        """Write an array to where `pointer` points, at the end of a member's step."""

    @abstractmethod
    def kept(self, place: str, array: Array) -> None:
        """Write what every prompt has to `place`, rows of `padded` prompts."""

    @abstractmethod
    def finish(self, scratch: str) -> tuple[str, int]:
        """Pointers into scratch memory, and how many bytes of it they need; the sections are complete after it."""

    @abstractmethod
    def use(self, atom: Atom, level: int) -> Atom:
        """The atom as an operand of something at `level`."""

    def seen(self, vector: str, lanes: str) -> str:
        """A vector with zeros for the prompts that only fill the last tile."""
        return vector if self.padded == self.prompts else f"only({vector}, {lanes})"

    def source(self, scratch: str, key: str, renew: int | None) -> tuple[str, int]:
        """The function, and how many bytes of scratch it needs."""
        pointers, size = self.finish(scratch)
        section = {name: "\n".join(lines) for name, lines in self.sections.items()}
        text = f"""extern "C" void run(void** tensors, const int64_t* numbers) {{
const int64_t jobs = numbers[0], rates = numbers[1], first = numbers[2], count = numbers[3], begin = numbers[4];
constexpr int64_t prompts = {self.prompts}, padded = {self.padded}, TILE = {self.tile};
{pointers}
for (int64_t j = 0; j < jobs; j++)
for (int64_t t = first; t < first + count; t++) {{
const int64_t* key = (const int64_t*){key} + 3 * j;
const uint32_t key_2 = key[2], word = {f"t / {renew}" if renew else "0"};
const Key rounds = schedule(key[0], key[1]);
{section["job"]}
{"" if renew == 1 else "if (t == first)" if renew is None else f"if (t == first || t % {renew} == 0)"}
for (int64_t k = 0; k < padded; k += TILE) {{
{section["draw"]}
}}
for (int64_t r = 0; r < rates; r++) {{
{section["member"]}
for (int64_t k = 0; k < padded; k += TILE) {{
{section["tile"]}
}}
{section["after"]}
{section["ends"]}
}}
}}
}}
"""
        return text, size

    @staticmethod
    def section(level: int) -> str:
        """Where a value of that level is computed."""
        if level & AFTER:
            if level & PROMPT:
                raise NotLowerable("prompts that meet a sum over prompts")
            return "after"
        if level & PROMPT:
            return "tile" if level & MEMBER else "draw"
        return "member" if level & MEMBER else "job"

    def cast(self, atom: Atom, type: str) -> Atom:
        """In another type."""
        if atom.type == type:
            return atom
        if atom.value is not None:
            return constant(atom.value, type)
        if not atom.level & PROMPT:
            return self.write(f"({type})({atom.code})", [atom], type)
        if atom.type == "bool" and type in VECTOR:
            one = constant(1.0, type)
            return self.choose(atom, one, constant(0.0, type))
        if {atom.type, type} == {"float", "double"}:
            return self.write(f"to_{VECTOR[type]}({atom.code})", [atom], type)
        raise NotLowerable(f"a cast from {atom.type} to {type}")

    def binary(self, sign: str, a: Atom, b: Atom) -> Atom:
        """a sign b, for + - * /; what is known to be 0 or 1 is not written."""
        type = a.type
        if a.value is not None and b.value is not None and not (sign == "/" and b.value == 0):
            return constant(_FOLD[sign](a.value, b.value), type)
        if sign == "*" and 0.0 in (a.value, b.value):
            return constant(0.0, type)
        if (sign in "+-" and b.value == 0) or (sign in "*/" and b.value == 1):
            return a
        if (sign == "+" and a.value == 0) or (sign == "*" and a.value == 1):
            return b
        if sign == "-" and a.value == 0:
            return self.write(f"-{b.code}", [b], type)
        level = a.level | b.level
        a, b = self.use(a, level), self.use(b, level)
        if sign in "+*" and b.code < a.code:
            a, b = b, a
        return self.write(f"{a.code} {sign} {b.code}", [a, b], type, level=level)

    def compare(self, sign: str, a: Atom, b: Atom) -> Atom:
        """A condition."""
        level = a.level | b.level
        if "bool" in (a.type, b.type) and (a.value is not None or b.value is not None or a.mask != b.mask):
            raise NotLowerable("conditions of different kinds")
        a, b = self.use(a, level), self.use(b, level)
        mask = (a.mask or b.mask or ("vi" if a.type == "float" else "vl")) if level & PROMPT else ""
        return self.write(f"{a.code} {sign} {b.code}", [a, b], "bool", mask, level)

    def choose(self, condition: Atom, a: Atom, b: Atom) -> Atom:
        """a where the condition holds, else b."""
        if condition.value is not None:
            return a if condition.value else b
        level = condition.level | a.level | b.level
        a, b, condition = self.use(a, level), self.use(b, level), self.use(condition, level)
        code = condition.code
        if level & PROMPT:
            if condition.level & PROMPT:
                needed = "vi" if a.type == "float" else "vl"
                code = code if condition.mask == needed else f"to_{needed}({code})"
            return self.write(f"pick({code}, {a.wide}, {b.wide})", [condition, a, b], a.type, level=level)
        return self.write(f"{code} ? {a.code} : {b.code}", [condition, a, b], a.type, level=level)

    def negate(self, a: Atom) -> Atom:
        """Not a condition."""
        if a.value is not None:
            return constant(not a.value, "bool")
        return self.write(f"~{a.code}" if a.level & PROMPT else f"!{a.code}", [a], "bool", a.mask)

    def call(self, function: str, a: Atom) -> Atom:
        """A function of the prelude."""
        if a.value is not None and function in _FUNCTIONS:
            return constant(_FUNCTIONS[function](a.value), a.type)
        return self.write(f"{function}({a.code})", [a], a.type)

    def add(self, atoms: Sequence[Atom], type: str) -> Atom:
        """Their sum, from the left."""
        total = constant(0.0, type)
        for atom in atoms:
            total = self.binary("+", total, atom)
        return total


def level_of(atoms: Sequence[Atom]) -> int:
    """What any of them depends on."""
    level = 0
    for atom in atoms:
        level |= atom.level
    return level


_FOLD: dict[str, Callable[[float, float], float]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
}
_FUNCTIONS: dict[str, Callable[[float], float]] = {"f_sqrt": math.sqrt, "f_exp": math.exp, "f_log": math.log}
