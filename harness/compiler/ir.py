"""The intermediate form of a step: expressions of one element each, and arrays that give an expression at every index.

An expression has a level, which says what it depends on and so where in the loop nest it is computed:

    job { step { draw: prompts } trial { member { tile: prompts } after } }

What depends on the job alone is computed once per job, what also depends on a prompt once per prompt, and so on. Equal
expressions are one object, which `Builder.expr` takes care of.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import torch

from .affine import Position, Variable

PROMPTS = 15_485_863  # the length of the prompts axis in a trace: a prime that no other axis has

MEMBER, PROMPT, AFTER = 2, 4, 8  # bits of a level: depends on the member, on a prompt, on a sum over prompts
TYPES = {torch.float32: "float", torch.float64: "double", torch.bool: "bool", torch.int64: "int64_t"}
BYTES = {"float": 4, "double": 8, "bool": 1, "int64_t": 8}

Index = tuple[Any, ...]  # an int or an affine expression for each axis; the entry of the prompts' axis is not used
Section = Literal["job", "draw", "member", "tile", "after", "ends"]  # parts of the loop nest


class NotLowerable(Exception):
    """The step contains something that has no translation to C++; the message names it."""


def type_of(dtype: torch.dtype) -> str:
    """The type of a tensor's elements. Raises NotLowerable if there is none."""
    if dtype not in TYPES:
        raise NotLowerable(f"numbers of type {str(dtype).removeprefix('torch.')}")
    return TYPES[dtype]


@dataclass(eq=False)
class Memory:
    """An array in memory that an expression can load from: an input of the step, or a buffer of the program."""

    name: str  # of the pointer
    type: str
    size: int  # elements, prompts aside
    level: int
    compared: str = ""  # of conditions: the type of the numbers that they compare


@dataclass(frozen=True, eq=False)
class Expr:
    """One element: an operation on other expressions.

    const          detail: the number
    load           detail: (the memory, the position in it)
    variate        detail: (normals or uniforms, counter, which of the counter's four)
    step           the number of the step
    + - * / < <= > >= == != & | pow      of two arguments
    neg not cast   of one
    call           of one; detail: the function, by its name in C
    choose         a condition, and what is chosen where it holds and where not
    sum            of one, over the loops in detail
    total          of one, over all prompts
    """

    op: str
    args: tuple[Expr, ...]
    type: str  # float, double, bool, int64_t
    level: int
    detail: Any
    compared: str  # of a condition: the type of the numbers that it compares
    number: int  # in the order of creation
    loops: frozenset[Variable]  # that change its value

    @property
    def value(self) -> float | None:
        """The number, of a constant; None for other expressions."""
        value: float | None = self.detail if self.op == "const" else None
        return value

    @property
    def place(self) -> tuple[Memory, Position]:
        """What a load reads."""
        assert self.op == "load"
        place: tuple[Memory, Position] = self.detail
        return place


@dataclass(frozen=True)
class Array:
    """A tensor of the step: `at` gives the expression at an index, which has an entry for each axis."""

    shape: tuple[int, ...]
    type: str
    at: Callable[[Index], Expr]
    regions: tuple[Region, ...] = ()  # the parts of a joined array; a later one overwrites an earlier one
    memory: Memory | None = None  # which holds exactly its elements, in their order

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


def whole_prompts(index: Index, shape: tuple[int, ...]) -> None:
    """Raise NotLowerable where an index asks for another prompt than the one that is computed, which is 0."""
    if PROMPTS in shape and index[shape.index(PROMPTS)] != 0:
        raise NotLowerable("prompts in another order")


def level_of(exprs: Iterable[Expr]) -> int:
    """The union of the expressions' levels: everything that at least one of them depends on."""
    level = 0
    for expr in exprs:
        level |= expr.level
    return level


def section_of(level: int) -> Section:
    """The part of the loop nest in which what has this level is computed."""
    if level & AFTER:
        if level & PROMPT:
            raise NotLowerable("prompts that meet a sum over prompts")
        return "after"
    if level & PROMPT:
        return "tile" if level & MEMBER else "draw"
    return "member" if level & MEMBER else "job"


def needed(roots: Iterable[Expr], *, outside_sums: bool = False) -> list[Expr]:
    """The roots and everything that they are computed from, each after its arguments.

    outside_sums: without the terms of sums, which are computed in loops of their own.
    """
    found: dict[int, Expr] = {}
    ahead = list(roots)
    while ahead:
        expr = ahead.pop()
        if expr.number not in found:
            found[expr.number] = expr
            ahead += expr.args if expr.op != "sum" or not outside_sums else ()
    return [found[number] for number in sorted(found)]
