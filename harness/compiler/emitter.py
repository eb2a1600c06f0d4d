"""The emitter: writes the operations of a step as C++ statements, each into its section of the loop nest.

Operations with a known result (a product with 0, a sum with 0) are folded and emit nothing. Arithmetic on scalars is
implemented here; how an array is represented, as one variable per element (`unrolled.py`) or in memory (`looped.py`),
is up to the subclass.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from .ir import AFTER, MEMBER, PROMPT, VECTOR, Array, Index, NotLowerable, Operand, constant


class Emitter(ABC):
    """Emits the statements of a step into the sections of the loop nest."""

    opening = ""  # C++ that goes before the prelude

    def __init__(self, prompts: int, tile: int) -> None:
        self.prompts, self.tile = prompts, tile  # prompts of a step, and of one iteration of the innermost loop
        self.padded = -(-prompts // tile) * tile
        self.sections: dict[str, list[str]] = {name: [] for name in ("job", "draw", "member", "tile", "after", "ends")}
        self.count = 0

    @abstractmethod
    def emit(
        self, code: str, operands: Sequence[Operand], type: str, mask: str = "", level: int | None = None
    ) -> Operand:
        """A variable with the value of the C++ expression `code`; equal expressions share a variable.

        level: of the result; None: the union of the operands' levels.
        """

    @abstractmethod
    def sum(self, ranges: Sequence[range], term: Callable[[Index], Operand], type: str) -> Operand:
        """The sum of a term over all indices in the product of the ranges."""

    @abstractmethod
    def over_prompts(self, operand: Operand) -> Operand:
        """The sum of an operand over all prompts of a step: accumulated in `tile`, available in `after`."""

    @abstractmethod
    def materialise(self, array: Array, *, lazy: bool) -> Array:
        """The same array with its elements computed now, or, if lazy, wherever they are used."""

    @abstractmethod
    def stored(self, name: str, shape: tuple[int, ...], type: str, level: int) -> Array:
        """The array behind the C++ pointer `name`."""

    @abstractmethod
    def literal(self, values: Sequence[float], shape: tuple[int, ...], type: str) -> Array:
        """An array of constants; values: its elements in their order."""

    @abstractmethod
    def lookup(self, table: Array, index: Index, size: int) -> Any:
        """An entry of a table of integer constants, modulo `size`, for use in an index expression."""

    @abstractmethod
    def drawn(self, kind: str, shape: tuple[int, ...], begin: int) -> Array:
        """Random variates of every prompt, number `begin` and following, four to a counter.

        kind: the function of the prelude that converts words, `normals` or `uniforms`.
        """

    @abstractmethod
    def assign(self, pointer: str, array: Array, type: str) -> None:
        """Store an array without prompts at `pointer`, at the end of a member's step."""

    @abstractmethod
    def assign_by_prompt(self, pointer: str, array: Array) -> None:
        """Store an array with a value per prompt at `pointer`, as rows of `padded` prompts."""

    @abstractmethod
    def finish(self, scratch: str) -> tuple[str, int]:
        """Complete the sections.

        Returns the declarations of pointers into the memory at the pointer `scratch`, and the bytes of it they need.
        """

    @abstractmethod
    def use(self, operand: Operand, level: int) -> Operand:
        """The operand in the form that an operation at `level` reads."""

    def without_padding(self, vector: str, lanes: str) -> str:
        """A vector expression with zeros in the lanes past the last prompt; lanes: how many prompts are left."""
        return vector if self.padded == self.prompts else f"only({vector}, {lanes})"

    def source(self, scratch: str, key: str, renew: int | None) -> tuple[str, int]:
        """The C++ function of the step, in which `rates` counts trials, and the bytes of scratch memory it needs."""
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
        """The section in which a value of this level is computed."""
        if level & AFTER:
            if level & PROMPT:
                raise NotLowerable("prompts that meet a sum over prompts")
            return "after"
        if level & PROMPT:
            return "tile" if level & MEMBER else "draw"
        return "member" if level & MEMBER else "job"

    def cast(self, operand: Operand, type: str) -> Operand:
        """The operand converted to another scalar type."""
        if operand.type == type:
            return operand
        if operand.value is not None:
            return constant(operand.value, type)
        if not operand.level & PROMPT:
            return self.emit(f"({type})({operand.code})", [operand], type)
        if operand.type == "bool" and type in VECTOR:
            one = constant(1.0, type)
            return self.choose(operand, one, constant(0.0, type))
        if {operand.type, type} == {"float", "double"}:
            return self.emit(f"to_{VECTOR[type]}({operand.code})", [operand], type)
        raise NotLowerable(f"a cast from {operand.type} to {type}")

    def binary(self, sign: str, a: Operand, b: Operand) -> Operand:
        """The operation `a sign b` for + - * /, folded where an operand is known to be 0 or 1."""
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
            return self.emit(f"-{b.code}", [b], type)
        level = a.level | b.level
        a, b = self.use(a, level), self.use(b, level)
        if sign in "+*" and b.code < a.code:
            a, b = b, a
        return self.emit(f"{a.code} {sign} {b.code}", [a, b], type, level=level)

    def compare(self, sign: str, a: Operand, b: Operand) -> Operand:
        """The condition `a sign b`, for a comparison, or for & and | of two conditions."""
        level = a.level | b.level
        if "bool" in (a.type, b.type) and (a.value is not None or b.value is not None or a.mask != b.mask):
            raise NotLowerable("conditions of different kinds")
        a, b = self.use(a, level), self.use(b, level)
        mask = (a.mask or b.mask or ("vi" if a.type == "float" else "vl")) if level & PROMPT else ""
        return self.emit(f"{a.code} {sign} {b.code}", [a, b], "bool", mask, level)

    def choose(self, condition: Operand, a: Operand, b: Operand) -> Operand:
        """The operand a where the condition holds, else b."""
        if condition.value is not None:
            return a if condition.value else b
        level = condition.level | a.level | b.level
        a, b, condition = self.use(a, level), self.use(b, level), self.use(condition, level)
        code = condition.code
        if level & PROMPT:
            if condition.level & PROMPT:
                needed = "vi" if a.type == "float" else "vl"
                code = code if condition.mask == needed else f"to_{needed}({code})"
            return self.emit(f"pick({code}, {a.vector}, {b.vector})", [condition, a, b], a.type, level=level)
        return self.emit(f"{code} ? {a.code} : {b.code}", [condition, a, b], a.type, level=level)

    def negate(self, condition: Operand) -> Operand:
        """The negation of a condition."""
        if condition.value is not None:
            return constant(not condition.value, "bool")
        sign = "~" if condition.level & PROMPT else "!"
        return self.emit(f"{sign}{condition.code}", [condition], "bool", condition.mask)

    def call(self, function: str, a: Operand) -> Operand:
        """The value at a of a function of the prelude, such as `f_exp`."""
        if a.value is not None and function in _FUNCTIONS:
            return constant(_FUNCTIONS[function](a.value), a.type)
        return self.emit(f"{function}({a.code})", [a], a.type)

    def add(self, operands: Sequence[Operand], type: str) -> Operand:
        """The sum of the operands, added from left to right."""
        total = constant(0.0, type)
        for operand in operands:
            total = self.binary("+", total, operand)
        return total


_FOLD: dict[str, Callable[[float, float], float]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
}
_FUNCTIONS: dict[str, Callable[[float], float]] = {"f_sqrt": math.sqrt, "f_exp": math.exp, "f_log": math.log}
