"""What of a program depends on the machine: how many prompts stand side by side, the names of types, the loop nest."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from .ir import PROMPT, Expr, Section

PRELUDE = Path(__file__).parent / "prelude.h"
SYMMETRIC = Path(__file__).parent / "symmetric.h"
RANDOM = Path(__file__).parent / "random.h"
VECTORS = {"float": "vf", "double": "vd"}  # the vector of a type
CONDITIONS = {"float": "vi", "double": "vl"}  # the vector of conditions on it


@dataclass(frozen=True)
class Target:
    """A processor with vector registers, and the C++ for it.

    register: bytes of a vector register. registers: their number.
    """

    register: int
    registers: int

    index = "int64_t"  # the type of loop variables
    table = "static const"  # how an array of constants is declared

    def by_prompt(self, expr: Expr) -> bool:
        """Whether an expression's code is a vector, with an element for each of several prompts."""
        return bool(expr.level & PROMPT)

    def vector_of(self, type: str) -> str:
        """The type of a number of each prompt that stands side by side."""
        return VECTORS[type]

    @property
    def counters(self) -> int:
        """How many counters of the random streams are best computed side by side."""
        return self.registers // 8

    def lanes(self, dtype: torch.dtype) -> int:
        """How many prompts stand side by side in a step of this type."""
        return self.register // dtype.itemsize

    def type_of(self, expr: Expr) -> str:
        """The type of a variable with the value of an expression: a vector if it depends on the prompt."""
        if not self.by_prompt(expr):
            return expr.type
        return CONDITIONS[expr.compared] if expr.type == "bool" else VECTORS[expr.type]

    def vector(self, expr: Expr, code: str) -> str:
        """An expression's code as that of a vector; a scalar is repeated in all lanes."""
        return code if expr.level & PROMPT else f"({VECTORS[expr.type]}{{}} + {code})"

    def condition(self, expr: Expr, code: str, compared: str) -> str:
        """A condition's code as that of a vector of conditions on a type."""
        if not expr.level & PROMPT:
            return f"({CONDITIONS[compared]}{{}} - {code})"
        return code if expr.compared == compared else f"to_{CONDITIONS[compared]}({code})"

    def code(self, expr: Expr, args: Sequence[str]) -> str:
        """The C++ of an operation on arguments with this code; for all operations but loads, variates and sums."""
        vector = self.by_prompt(expr)
        match expr.op:
            case "const":
                return literal(expr.value or 0.0, expr.type)
            case "step":
                return "t"
            case "neg":
                return f"-{args[0]}"
            case "not":
                return f"{'~' if vector else '!'}{args[0]}"
            case "cast":
                return f"to_{VECTORS[expr.type]}({args[0]})" if vector else f"({expr.type})({args[0]})"
            case "call":
                return f"f_{expr.detail}({args[0]})"
            case "pow":
                return f"__builtin_pow({args[0]}, {args[1]})"
            case "choose" if vector:
                condition, a, b = expr.args
                chosen = (self.vector(x, code) for x, code in ((a, args[1]), (b, args[2])))
                asked = self.condition(condition, args[0], expr.type) if condition.level & PROMPT else args[0]
                return f"pick({asked}, {', '.join(chosen)})"
            case "choose":
                return f"{args[0]} ? {args[1]} : {args[2]}"
            case "&" | "|" if vector:
                return f" {expr.op} ".join(
                    self.condition(x, code, expr.compared) for x, code in zip(expr.args, args, strict=True)
                )
            case _:
                return f"{args[0]} {expr.op} {args[1]}"

    def draw(self, kind: str, first: int, count: int, out: str) -> str:
        """The statement that draws variates of so many counters for a tile; out: the code of a pointer to floats."""
        return f"draw_{kind}<{count}, {self.counters}>({out}, index, {first}u, stream);"

    def shared(self, lanes: int) -> str:
        """The source of what every program with so many lanes is linked with: the random streams."""
        return f"#define LANES {lanes}\n{PRELUDE.read_text()}{RANDOM.read_text()}"

    def source(self, sections: Mapping[Section, Sequence[str]], **program: object) -> str:
        """The program: `void run(void** tensors, const int64_t* numbers)`, the sections in their loops.

        program: lanes, prompts, padded, block (tiles to a block), renew, key (the code of the pointer to the streams'
        keys), functions and pointers (declarations), reductions (lines for a block of tiles).
        """
        text = {name: "\n".join(lines) for name, lines in sections.items()}
        renew = program["renew"]
        drawing = "" if renew == 1 else "if (t == first)" if renew is None else f"if (t == first || t % {renew} == 0)"
        return f"""#define LANES {program["lanes"]}
{PRELUDE.read_text()}{SYMMETRIC.read_text()}
{program["functions"]}
extern "C" void run(void** tensors, const int64_t* numbers) {{
const int64_t jobs = numbers[0], trials = numbers[1], first = numbers[2], count = numbers[3], begin = numbers[4];
constexpr int64_t prompts = {program["prompts"]}, padded = {program["padded"]}, BLOCK = {program["block"]} * W;
{program["pointers"]}
for (int64_t j = 0; j < jobs; j++)
for (int64_t t = first; t < first + count; t++) {{
const int64_t* key = (const int64_t*){program["key"]} + 3 * j;
const Stream stream = stream_of(key, {f"t / {renew}" if renew else "0"});
{text["job"]}
{drawing}
for (int64_t k = 0; k < padded; k += W) {{
{text["draw"]}
}}
for (int64_t r = 0; r < trials; r++) {{
{text["member"]}
for (int64_t start = 0; start < padded; start += BLOCK) {{
const int64_t end = start + BLOCK < padded ? start + BLOCK : padded;
for (int64_t k = start; k < end; k += W) {{
{text["tile"]}
}}
{program["reductions"]}
}}
{text["after"]}
{text["ends"]}
}}
}}
}}
"""


def literal(value: float, type: str) -> str:
    """A number in C++."""
    if type in ("bool", "int64_t"):
        return str(int(value))
    if math.isnan(value):
        return f'{type}(__builtin_nan(""))'
    text = {math.inf: "__builtin_inf()", -math.inf: "-__builtin_inf()"}.get(value, repr(float(value)))
    return f"{type}({text})"


@functools.cache
def host() -> Target:
    """The target of this machine: its vector registers, as /proc/cpuinfo tells."""
    try:
        wide = " avx512f " in Path("/proc/cpuinfo").read_text().replace("\n", " ")
    except OSError:
        wide = False
    return Target(64, 32) if wide else Target(32, 16)
