"""Scalars of a step as lines of C++, each in the place of the loop nest that its inputs force on it.

    job { step { draw: prompts } rate { member { tile: prompts } after } }

A value that depends on nothing but the job is computed once; one that also depends on a prompt, for every prompt; and
so on. Prompts are taken eight at a time. The same expression is written once, and what is known to be 0 or 1 not at
all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import torch

PROMPTS = 15_485_863  # the length of the prompts axis in a trace: a prime that no other axis has
LIMIT = 60_000  # lines of a program; a larger one takes the C++ compiler minutes

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

    @property
    def declared(self) -> str:
        """Its C++ type."""
        if not self.level & PROMPT:
            return self.type
        return self.mask if self.type == "bool" else VECTOR[self.type]


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

    @property
    def size(self) -> int:
        """Elements, prompts aside."""
        return math.prod(n for n in self.shape if n != PROMPTS)

    @property
    def indices(self) -> Iterator[Index]:
        """Every index."""
        return product(*(range(n) if n != PROMPTS else (0,) for n in self.shape))


class Writer:
    """Writes each value once, into the section of the loop nest where it belongs."""

    def __init__(self, prompts: int) -> None:
        self.prompts = prompts
        self.sections: dict[str, list[str]] = {name: [] for name in ("job", "draw", "member", "tile", "after")}
        self.names: dict[Any, Atom] = {}
        self.count = 0
        self.accumulators: list[str] = []
        self.frontier: dict[str, str] = {}  # values of `draw` that `tile` needs, and how it reads them
        self.rows: dict[str, int] = {"float": 0, "double": 0}

    def name(self) -> str:
        """A fresh name."""
        self.count += 1
        if self.count > LIMIT:
            raise NotLowerable(f"more than {LIMIT} operations")
        return f"t{self.count}"

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

    def write(self, code: str, of: Sequence[Atom], type: str, mask: str = "", level: int | None = None) -> Atom:
        """The value of an expression, named; the same expression is written once."""
        level = _level(of) if level is None else level
        if code not in self.names:
            atom = self.names[code] = Atom(self.name(), type, level, mask=mask)
            self.sections[self.section(level)].append(f"const {atom.declared} {atom.code} = {code};")
        return self.names[code]

    def use(self, atom: Atom, level: int) -> Atom:
        """The atom as an operand of something at `level`: what `draw` made is read back from memory in `tile`."""
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
            wide = VECTOR[a.type]
            if condition.level & PROMPT:
                needed = "vi" if a.type == "float" else "vl"
                code = code if condition.mask == needed else f"to_{needed}({code})"
            first, second = (x.code if x.level & PROMPT else f"({wide}{{}} + {x.code})" for x in (a, b))
        else:
            first, second = a.code, b.code
        return self.write(f"{code} ? {first} : {second}", [condition, a, b], a.type, level=level)

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

    def over_prompts(self, atom: Atom) -> Atom:
        """The sum over all prompts of a step: accumulated in `tile`, known in `after`."""
        if not atom.level & PROMPT:
            return self.binary("*", atom, constant(self.prompts, atom.type))
        key = ("sum", atom.code)
        if key not in self.names:
            level = atom.level | MEMBER
            name = f"s{len(self.accumulators)}"
            self.accumulators.append(f"{VECTOR[atom.type]} {name}")
            self.sections["tile"].append(f"ADD({name}, {self.use(atom, level).code});")
            after = (level & ~PROMPT) | AFTER
            self.names[key] = self.write(f"total({name})", [], atom.type, level=after)
        return self.names[key]


def _level(atoms: Sequence[Atom]) -> int:
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
