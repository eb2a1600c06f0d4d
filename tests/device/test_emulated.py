"""That the host which plays a device finds what is wrong with a kernel: a barrier that is missing, a wrong number."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from lfombench.harness.compiler import cache, cpp, on_device
from lfombench.harness.compiler.cuda import Cuda
from lfombench.harness.compiler.device import kernel
from lfombench.harness.compiler.known import shapes
from lfombench.harness.compiler.lower import Form
from lfombench.harness.compiler.native import lowering_of
from lfombench.harness.compiler.on_device import Driver, OnDevice
from lfombench.harness.compiler.step import Tensors
from tests.device.emulated import HEADER, START, THREADS, Emulated
from tests.device.kernels import (
    MEMORY,
    ORDERS,
    after,
    assert_close,
    assert_same_bits,
    by_cpu,
    by_kernel,
    differ,
)
from tests.device.steps import Given, trained

pytestmark = pytest.mark.usefixtures("played_kernels")


def changed(given: Given, form: Form, driver: Driver, change: Callable[[str], str], steps: int = 2) -> Tensors:
    """Records and state by a kernel whose source was changed."""
    step, job, state, _ = given
    lowered = kernel(lowering_of(step, shapes(job, 1), shapes(state, 2)), form)
    run = OnDevice(*given, form, driver)
    run.program = on_device.Program(driver.load(change(lowered.source), lowered.layout), lowered.layout)
    return after(run, given, [steps], 0)


def without_barrier(source: str, before: str) -> str:
    """A source without the barrier that stands before some text."""
    at = source.index(before)
    head, barrier, between = source[:at].rpartition("__syncthreads();")
    assert barrier
    assert not between.strip()
    return head + source[at:]


@pytest.mark.parametrize(
    ("form", "before"),
    [
        ("unrolled", "const int here"),  # between the rows of vectors and their products
        ("unrolled", "}\nShared<"),  # between products of a tile and the rows of the next
        (
            "unrolled",
            "#pragma unroll 1\n  for (int i = thread; i < n; i += W) {\n    T sum = partial",
        ),  # between sums of warps and theirs
        ("unrolled", "for (int64_t t = first"),  # between what is known from the start and the steps
        ("looped", "{\nconst int here"),  # between a tile and its sums
        ("looped", "}\nf"),  # between sums and what is made of them
    ],
)
def test_where_a_barrier_is_missing_another_order_of_threads_gives_other_numbers(before, form):
    """So that a race does not go unseen; with all barriers the numbers are those of every other test."""
    make = trained(MEMORY, batch=300)
    whole = changed(make(), form, Emulated(1), lambda source: source)
    assert_same_bits(whole, by_kernel(make(), form, Emulated(1), [2]))
    found = [changed(make(), form, Emulated(1, o), lambda source: without_barrier(source, before)) for o in ORDERS]
    assert any(differ(found[0], other) for other in found[1:])


@pytest.mark.parametrize(
    ("form", "right", "wrong"),
    [
        ("looped", "for (int n = 16; n; n /= 2) x +=", "for (int n = 8; n; n /= 2) x +="),
        ("unrolled", "x[i] = kept + __shfl_xor_sync(0xffffffffu, given, n)", "x[i] = kept"),
        ("unrolled", "if (k < prompts) {", "{"),
        ("looped", "prompts - start < W ? prompts - start : W", "W"),
        ("looped", "(uint32_t)(begin + k)", "(uint32_t)(begin + k + 1)"),
    ],
)
def test_a_kernel_that_is_wrong_is_found_to_be(form, right, wrong):
    make = trained(MEMORY)

    def mistaken(source: str) -> str:
        assert right in source
        return source.replace(right, wrong)

    found = changed(make(), form, Emulated(), mistaken)
    with pytest.raises(AssertionError, match=r"is wrong by|norm"):
        assert_close(found, by_cpu(make(), form, [2]))


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("if (thread < 5) __syncthreads();", "a barrier that only 5 of 64 threads reach"),
        ("if (thread < 5) __shfl_xor_sync(0xffffffffu, 1.0f, 1);", "an exchange that only 5 lanes of a warp take part"),
        ("if (thread != 40) warp_total(1.0f);", "an exchange that only 31 lanes of a warp take part"),
    ],
)
def test_threads_that_do_not_come_along_end_the_process(lines, said):
    """In a process of its own. Where all of them do, it ends well."""
    for body, code in ((lines, -signal.SIGABRT), ("__syncthreads(); warp_total(1.0f);", 0)):
        source = HEADER.read_text() + Cuda(block=64).kernel("", 1, [body]) + START
        library = cache.folder() / cpp.compile(source, THREADS.read_text())
        start = f"ctypes.CDLL({str(library)!r}).start(ctypes.create_string_buffer(48), 1, 64, 0)"
        ended = subprocess.run([sys.executable, "-c", f"import ctypes; {start}"], capture_output=True, text=True)
        assert ended.returncode == code, ended.stderr
        assert (said in ended.stderr) == (code != 0)
