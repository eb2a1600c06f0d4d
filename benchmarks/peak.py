"""The multiply-add peak of one core in float32: independent accumulators in vector registers, nothing in memory."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import torch
from timing import timed

from lfombench.harness.compiler import cpp
from lfombench.harness.compiler.target import host

ROUNDS = 4_000_000
SOURCE = """
#include <cstdint>
typedef float V __attribute__((vector_size({register})));
extern "C" void run(void** tensors, const int64_t* numbers) {{
V a[{accumulators}], x = V{{}} + 0.999f, y = V{{}} + 0.001f;
for (int i = 0; i < {accumulators}; i++) a[i] = V{{}} + float(i);
for (int64_t k = 0; k < numbers[0]; k++) {{
#pragma GCC unroll {accumulators}
for (int i = 0; i < {accumulators}; i++) a[i] = a[i] * x + y;
}}
V sum = a[0];
for (int i = 1; i < {accumulators}; i++) sum += a[i];
*(V*)tensors[0] = sum;
}}
"""


def peak() -> Callable[[], float]:
    """A function that measures it: operations a second, a multiply-add counted as two. Raises NoCompiler."""
    target = host()
    accumulators = target.registers // 2
    function = cpp.load(cpp.compile(SOURCE.format(register=target.register, accumulators=accumulators)))
    assert function is not None
    sums = torch.empty(2 * target.register, dtype=torch.uint8)
    aligned = sums.data_ptr() + -sums.data_ptr() % target.register
    operations = 2.0 * target.lanes(torch.float32) * accumulators * ROUNDS

    def measure(sums: torch.Tensor = sums) -> float:  # which has to live as long
        arguments = (ctypes.c_void_p * 1)(aligned), (ctypes.c_int64 * 1)(ROUNDS)
        return operations / min(timed(lambda: function(*arguments)) for _ in range(3))

    return measure
