"""The CUDA device as a target: a thread has a prompt, and what is a vector on a CPU is a number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .ir import Expr
from .target import Target

HEADERS = [Path(__file__).parent / name for name in ("cuda.h", "symmetric.h")]
WARP = 32
SIZES = {
    "unrolled": (128, 2),
    "looped": (256, 2),
}  # threads of a block, blocks of a multiprocessor: as measured on an H200


@dataclass(frozen=True)
class Cuda(Target):
    """A block of threads, each with a prompt.

    block: threads. resident: blocks that a multiprocessor shall hold at once, which bounds the registers of a thread.
    """

    register: int = 4
    registers: int = 32  # numbers that a product keeps side by side; a thread has more
    block: int = 128
    resident: int = 2

    index = "int"
    table = "__device__ const"

    @staticmethod
    def of(prompts: int, form: str) -> Cuda:
        """The target of a step of so many prompts, in a form."""
        most, resident = SIZES[form]
        return Cuda(block=min(most, -(-prompts // WARP) * WARP), resident=resident)

    def by_prompt(self, expr: Expr) -> bool:
        """No: an expression's code is a number."""
        return False

    def vector_of(self, type: str) -> str:
        """The type of a number of each prompt: of the thread's one."""
        return type

    def type_of(self, expr: Expr) -> str:
        """The type of a variable with the value of an expression."""
        return expr.type

    def vector(self, expr: Expr, code: str) -> str:
        """An expression's code, as it is."""
        return code

    def condition(self, expr: Expr, code: str, compared: str) -> str:
        """A condition's code, as it is."""
        return code

    def draw(self, kind: str, first: int, count: int, out: str) -> str:
        """The statement that draws variates of so many counters into memory."""
        return f"draw({kind}, {out}, index, {first}, {count}, stream);"

    def kernel(self, functions: str, tensors: int, body: Sequence[str]) -> str:
        """The source of a kernel. tensors: the number of its pointers."""
        headers = "\n".join(path.read_text() for path in HEADERS)
        lines = "\n".join(body)
        return f"""#define THREADS {self.block}
{headers}
{functions}
struct Arguments {{ char* tensors[{tensors}]; int64_t numbers[5]; }};
extern "C" __global__ void __launch_bounds__(THREADS, {self.resident}) run(const Arguments given) {{
extern __shared__ __align__(16) char shared[];
const int thread = threadIdx.x;
{lines}
}}
"""
