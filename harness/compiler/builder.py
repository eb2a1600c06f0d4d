"""Builds the expressions of a step, operation by operation, and folds those whose result is known.

Arithmetic on single elements is implemented here; how an array is kept, as an expression per element (`unrolled.py`) or
in memory (`looped.py`), is up to the subclass.
"""

from __future__ import annotations

import contextlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from .affine import Affine, Position, Variable, loops_of, substituted
from .ir import AFTER, MEMBER, PROMPT, Array, Expr, Index, Memory, NotLowerable, Section, level_of, needed


class Builder(ABC):
    """The expressions of a program. Equal expressions are made once."""

    def __init__(self, prompts: int) -> None:
        self.prompts = prompts  # of a step
        self.line = ""  # of the model, that is being built
        self.exprs: dict[Hashable, Expr] = {}
        self.tables: dict[str, tuple[int, ...]] = {}  # of integers, which index expressions look up by name

    def expr(
        self,
        op: str,
        args: tuple[Expr, ...],
        type: str,
        *,
        detail: Any = None,
        compared: str = "",
        level: int | None = None,
    ) -> Expr:
        """The expression of an operation; level: None for the union of the arguments' levels."""
        level = level_of(args) if level is None else level
        shown = repr(detail) if op == "const" else detail  # 0 and -0 differ, and a nan is equal to itself
        key = (op, type, level, shown, compared, *(arg.number for arg in args))
        if key not in self.exprs:
            loops = frozenset[Variable]().union(*(arg.loops for arg in args))
            loops = loops - frozenset(detail) if op == "sum" else loops
            loops = loops_of(detail[1]) if op == "load" else loops
            self.exprs[key] = self.made(Expr(op, args, type, level, detail, compared, len(self.exprs), loops))
        return self.exprs[key]

    def made(self, expr: Expr) -> Expr:
        """Called with every new expression, which it may replace."""
        return expr

    def constant(self, value: float, type: str) -> Expr:
        """A number, as an expression of a type."""
        return self.expr("const", (), type, detail=int(value) if type in ("bool", "int64_t") else float(value))

    def load(self, memory: Memory, position: Any) -> Expr:
        """An element of an array in memory."""
        type = "bool" if memory.compared else memory.type
        return self.expr("load", (), type, detail=(memory, position), compared=memory.compared, level=memory.level)

    @abstractmethod
    def sum(self, ranges: Sequence[range], term: Callable[[Index], Expr], type: str) -> Expr:
        """The sum of a term over all indices in the product of the ranges."""

    @abstractmethod
    def over_prompts(self, expr: Expr) -> Expr:
        """The sum of an expression over all prompts of a step."""

    @abstractmethod
    def materialise(self, array: Array, *, lazy: bool) -> Array:
        """The same array with its elements computed now, or, if lazy, wherever they are used."""

    @abstractmethod
    def stored(self, memory: Memory, shape: tuple[int, ...]) -> Array:
        """An input of the step."""

    @abstractmethod
    def literal(self, values: Sequence[float], shape: tuple[int, ...], type: str) -> Array:
        """An array of constants; values: its elements in their order."""

    @abstractmethod
    def lookup(self, table: Array, index: Index, size: int) -> Any:
        """An entry of a table of integer constants, modulo `size`, for use in an index expression."""

    @abstractmethod
    def drawn(self, kind: str, begin: int, shape: Sequence[int]) -> Array:
        """Random variates of every prompt, number `begin` and following, four to a counter.

        kind: normals or uniforms.
        """

    @abstractmethod
    def assign(self, memory: Memory, array: Array, section: Section) -> None:
        """Store an array in memory of the caller: one without prompts in `ends`, one with prompts in `tile`."""

    def cast(self, expr: Expr, type: str) -> Expr:
        """The expression converted to another type."""
        if expr.type == type:
            return expr
        if expr.value is not None:
            return self.constant(expr.value, type)
        if expr.level & PROMPT:
            if expr.type == "bool" and type in ("float", "double"):
                return self.choose(expr, self.constant(1.0, type), self.constant(0.0, type))
            if {expr.type, type} != {"float", "double"}:
                raise NotLowerable(f"a cast from {expr.type} to {type}")
        return self.expr("cast", (expr,), type)

    def binary(self, sign: str, a: Expr, b: Expr) -> Expr:
        """The operation `a sign b` for + - * /, folded where an argument is known to be 0 or 1."""
        type = a.type
        if a.value is not None and b.value is not None and not (sign == "/" and b.value == 0):
            return self.constant(_FOLD[sign](a.value, b.value), type)
        if sign == "*" and 0.0 in (a.value, b.value):
            return self.constant(0.0, type)
        if (sign in "+-" and b.value == 0) or (sign in "*/" and b.value == 1):
            return a
        if (sign == "+" and a.value == 0) or (sign == "*" and a.value == 1):
            return b
        if sign == "-" and a.value == 0:
            return self.expr("neg", (b,), type)
        if sign in "+*" and b.number < a.number:
            a, b = b, a
        return self.expr(sign, (a, b), type)

    def compare(self, sign: str, a: Expr, b: Expr) -> Expr:
        """The condition `a sign b`, for a comparison, or for & and | of two conditions."""
        if sign in "&|":
            for one, other in ((a, b), (b, a)):
                if one.value is not None:
                    return other if bool(one.value) == (sign == "&") else one
            if a.level & b.level & PROMPT and a.compared != b.compared:
                raise NotLowerable("a condition on float32 and one on float64, together")
            return self.expr(sign, (a, b), "bool", compared=a.compared if a.level & PROMPT else b.compared)
        if "bool" in (a.type, b.type) and (a.level | b.level) & PROMPT:
            raise NotLowerable("a comparison of conditions")
        return self.expr(sign, (a, b), "bool", compared=a.type)

    def choose(self, condition: Expr, a: Expr, b: Expr) -> Expr:
        """The expression a where the condition holds, else b."""
        if condition.value is not None:
            return a if condition.value else b
        return a if a is b else self.expr("choose", (condition, a, b), a.type)

    def negate(self, condition: Expr) -> Expr:
        """The negation of a condition."""
        if condition.value is not None:
            return self.constant(not condition.value, "bool")
        return self.expr("not", (condition,), "bool", compared=condition.compared)

    def call(self, function: str, a: Expr) -> Expr:
        """The value at a of a function, by its name in C."""
        if a.value is not None and function in _FUNCTIONS and a.value > 0:
            with contextlib.suppress(OverflowError):  # of exp, whose result C++ gives
                return self.constant(_FUNCTIONS[function](a.value), a.type)
        return self.expr("call", (a,), a.type, detail=function)

    def add(self, exprs: Sequence[Expr], type: str) -> Expr:
        """The sum of the expressions, added from left to right."""
        total = self.constant(0.0, type)
        for expr in exprs:
            total = self.binary("+", total, expr)
        return total

    def repeated(self, expr: Expr) -> Expr:
        """The sum over all prompts of what is the same for each."""
        return self.binary("*", expr, self.constant(self.prompts, expr.type))

    def replaced(self, expr: Expr, values: dict[Variable, Position], others: dict[int, Expr] | None = None) -> Expr:
        """The expression with other index expressions in place of some loop variables.

        others: what takes the place of some of its parts, by their numbers; where given, values are to be empty.
        """
        values = {v: place for v, place in values.items() if place != Affine(((v, 1),))}
        done: dict[int, Expr] = dict(others or {})
        for part in needed([expr]):  # the arguments of each come before it
            if part.number in done:
                continue
            if part.op == "load" and part.loops & values.keys():
                memory, position = part.place
                done[part.number] = self.load(memory, self.position(position, values))
                continue
            args = tuple(done[arg.number] for arg in part.args)
            if all(new is old for new, old in zip(args, part.args, strict=True)):
                done[part.number] = part
                continue
            if part.op in ("+", "*") and args[1].number < args[0].number:
                args = args[::-1]
            done[part.number] = self.expr(
                part.op, args, part.type, detail=part.detail, compared=part.compared, level=part.level
            )
        return done[expr.number]

    def position(self, position: Position, values: dict[Variable, Position]) -> Position:
        """The index expression with other index expressions in place of some loop variables."""
        return substituted(position, values, self.entry)

    def entry(self, table: str, position: int) -> int:
        """The entry of a table of integers."""
        return self.tables[table][position]


def after(level: int) -> int:
    """The level of a sum over prompts of what has this level."""
    return (level & ~PROMPT) | MEMBER | AFTER


_FOLD: dict[str, Callable[[float, float], float]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
}
_FUNCTIONS: dict[str, Callable[[float], float]] = {"sqrt": math.sqrt, "exp": math.exp, "log": math.log}
