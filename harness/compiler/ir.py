"""The intermediate form of a step: scalar operands in C++, and arrays that give an operand for every index.

An operand has a level, which says what it depends on and so where in the loop nest it is computed:

    job { step { draw: prompts } trial { member { tile: prompts } after } }

An operand that depends on the job alone is computed once per job, one that also depends on a prompt once per prompt,
and so on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch

PROMPTS = 15_485_863  # the length of the prompts axis in a trace: a prime that no other axis has
W = 8  # lanes of a vector: one prompt each

MEMBER, PROMPT, AFTER = 2, 4, 8  # bits of a level: depends on the member, on a prompt, on a sum over prompts
CPP_TYPES = {torch.float32: "float", torch.float64: "double", torch.bool: "bool", torch.int64: "int64_t"}
VECTOR = {"float": "vf", "double": "vd"}  # the vector type of a scalar type

Index = tuple[Any, ...]  # an int or an affine expression for each axis; the entry of the prompts' axis is not used


class NotLowerable(Exception):
    """The step contains something that has no translation to C++; the message names it."""


@dataclass(frozen=True)
class Operand:
    """A literal or a variable of the C++ program: a scalar, or a vector if it depends on the prompt."""

    code: str
    type: str  # float, double, bool, int64_t
    level: int = 0
    value: float | None = None  # of a literal
    mask: str = ""  # vi or vl: the vector type of a bool that depends on the prompt
    depth: int = 0  # of the loop in which it is declared

    @property
    def declared_type(self) -> str:
        """The type of the C++ variable, a vector type if the operand depends on the prompt."""
        if not self.level & PROMPT:
            return self.type
        return self.mask if self.type == "bool" else VECTOR[self.type]

    @property
    def vector(self) -> str:
        """The C++ text of the operand as a vector; a scalar is repeated in all lanes."""
        return self.code if self.level & PROMPT else f"({VECTOR[self.type]}{{}} + {self.code})"


def constant(value: float, type: str) -> Operand:
    """The literal of a number, in a scalar C++ type."""
    if type in ("bool", "int64_t"):
        return Operand(str(int(value)), type, 0, value)
    text = {math.inf: "__builtin_inf()", -math.inf: "-__builtin_inf()"}.get(value, repr(float(value)))
    return Operand('__builtin_nan("")' if value != value else f"{type}({text})", type, 0, value)


@dataclass(frozen=True)
class Array:
    """A tensor of the step: `at` gives the operand at an index, which has an entry for each axis."""

    shape: tuple[int, ...]
    type: str
    at: Callable[[Index], Operand]
    regions: tuple[Region, ...] = ()  # the parts of a joined array; a later one overwrites an earlier one

    @property
    def size(self) -> int:
        """The number of elements, prompts aside."""
        return math.prod(n for n in self.shape if n != PROMPTS)

    @property
    def indices(self) -> Iterator[Index]:
        """All indices in row-major order, with 0 for the prompts' axis."""
        return product(*(range(n) if n != PROMPTS else (0,) for n in self.shape))


@dataclass(frozen=True)
class Region:
    """A part of a larger array: `into` maps an index of the part to the index of the same element in the whole."""

    into: Callable[[Index], Index]
    part: Array


def level_of(operands: Sequence[Operand]) -> int:
    """The union of the operands' levels: everything that at least one of them depends on."""
    level = 0
    for operand in operands:
        level |= operand.level
    return level
