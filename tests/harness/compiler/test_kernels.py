"""Kernels against machine code of the CPU, by an emulated device: what they mean, and what their bits depend on."""

from __future__ import annotations

import ctypes
import itertools
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from lfombench.harness.compiler import cache, cpp, on_device, tile
from lfombench.harness.compiler import kernel as kernels
from lfombench.harness.compiler.cuda import Cuda
from lfombench.harness.compiler.device import KernelLayout, kernel
from lfombench.harness.compiler.ir import MEMBER, PROMPT, Expr, Memory
from lfombench.harness.compiler.known import shapes
from lfombench.harness.compiler.lower import Form
from lfombench.harness.compiler.native import lowering_of
from lfombench.harness.compiler.on_device import Driver, OnDevice
from lfombench.harness.compiler.products import MOST, Products, products_of
from lfombench.harness.compiler.registers import Registers
from lfombench.harness.compiler.select import program
from lfombench.harness.compiler.step import Step, Tensors
from lfombench.harness.compiler.streams import keys
from lfombench.harness.spec.labels import label
from lfombench.harness.training.closed_form import fit
from lfombench.harness.training import evaluate
from lfombench.harness.training.pack import WorkOrder
from lfombench.harness.training.training_step import initial, training
from lfombench.solvers import LinearTransformer, Memformer, Solver
from lfombench.tasks import LinearRegression
from tests.builders import order as pack_of
from tests.device.emulated import HEADER, START, THREADS, Emulated
from tests.harness.compiler.test_ops import OPERATIONS
from tests.programs import CPU, pack
from tests.solvers.test_battery import CASES, TOKENS

FORMS: list[Form] = ["unrolled", "looped"]
ORDERS = (0, 1, 7)  # of threads: forwards, backwards and by chance
PROMPTS = 75  # which fill no warp and no block
TASK = LinearRegression(d=4, n=9, spectrum=(1.0, 0.5, 2.0, 1.0), noise=0.1)
MEMORY = Memformer(depth=2, memory="cgd", preconditioner="full")
Given = tuple[Step, Tensors, Tensors, torch.Tensor]  # a step, and a pack's job, state and keys


@pytest.fixture(autouse=True)
def what_nobody_wrote_is_not_a_number() -> Iterator[None]:
    """Scratch memory and records are filled with nan before a kernel runs, as shared memory is by the emulation."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def by_kernel(given: Given, form: Form, driver: Driver, calls: Sequence[int], first: int = 0) -> Tensors:
    """Records of all calls, one after the other, and the state after them."""
    return _after(OnDevice(*given, form, driver), given, calls, first)


def by_cpu(given: Given, form: Form, calls: Sequence[int], first: int = 0) -> Tensors:
    """The same by the CPU's machine code."""
    return _after(program(*given, sum(calls), form), given, calls, first)


def _after(run: Any, given: Given, calls: Sequence[int], first: int) -> Tensors:
    step, _, state, _ = given
    records = []
    for count in calls:
        records.append(run(first, count))
        first += count
    found = {name: torch.cat([one[name] for one in records]) for name in records[0]}
    found = {name: x[..., : step.prompts] if name == "error" else x for name, x in found.items()}
    return found | {f"state {name}": x for name, x in state.items()}


def assert_same_bits(ours: Tensors, theirs: Tensors, members: Any = ...) -> None:
    assert ours.keys() == theirs.keys()
    for name, x in ours.items():
        one, other = x[members], theirs[name][members]
        assert torch.equal(one.isnan(), other.isnan()), name
        assert torch.equal(one.nan_to_num(), other.nan_to_num()), name


def assert_close(ours: Tensors, theirs: Tensors, tolerance: float = 1e-4) -> None:
    """Of every tensor: the same numbers that are none, and others alike, given how large they are on average."""
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        finite = expected.isfinite()
        assert torch.equal(ours[name].isfinite(), finite), name
        expected = expected[finite].double()
        wrong = (ours[name][finite].double() - expected).abs()
        bound = tolerance * (expected.abs() + expected.abs().mean())
        assert torch.all(wrong <= bound), f"{name} is wrong by {wrong.max():.1e}, of {expected.abs().mean():.1e}"


def differ(ours: Tensors, theirs: Tensors) -> bool:
    return any(not torch.equal(x.nan_to_num(7.0), theirs[name].nan_to_num(7.0)) for name, x in ours.items())


# Operations.


def operations(dtype: torch.dtype, renew: int | None) -> Callable[[], Given]:
    """A step of all operations and their gradients, of three jobs."""

    def update(job, state, batch, t):
        changes, records = {}, {}
        for name, operation in OPERATIONS.items():

            def total(scale, operation=operation):
                value = operation(scale[0, :, :, None] * batch, batch + job["shift"][:, :, None])
                return value.sum(), value

            gradient, value = torch.func.grad(total, has_aux=True)(state[name])
            changes[name] = state[name] - 0.01 * gradient
            records[name] = value.sum((1, 2)).unsqueeze(0)
        return changes, records

    step = Step(lambda job, random, n: random.normal(4, n), update, PROMPTS, renew, dtype)
    job = {"shift": torch.linspace(-1, 1, 12, dtype=dtype).view(3, 4)}
    start = torch.linspace(0.5, 1.5, 12, dtype=dtype).view(1, 3, 4)
    return lambda: (step, job, {name: start.clone() for name in OPERATIONS}, keys([("x", i) for i in range(3)], CPU))


@pytest.mark.parametrize("renew", [1, 2, None])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("form", FORMS)
def test_operations_and_their_gradients(form, dtype, renew):
    """Every rule, forward and backward, all in one kernel, whichever thread is first."""
    given = operations(dtype, renew)
    found = [by_kernel(given(), form, Emulated(2, order), [3]) for order in ORDERS]
    assert_close(found[0], by_cpu(given(), form, [3]), 2e-5 if dtype == torch.float32 else 1e-10)
    for other in found[1:]:
        assert_same_bits(found[0], other)


# Solvers.


def trained(solver: Solver, **protocol: Any) -> Callable[[], Given]:
    """A training step of two jobs in two trials."""
    packed = pack(solver, task=TASK, **{"batch": PROMPTS} | protocol)
    return lambda: training(packed, CPU)


def step_of_test(solver: Solver, prompts: int = PROMPTS) -> Callable[[], Given]:
    """A test step of two jobs, with what parameters start from or are fitted to."""
    packed = pack(solver, task=TASK)
    params = fit(packed, CPU, 512).params if solver.fits else {}
    params = {name: p[0] for name, p in initial(packed, CPU).items()} if solver.trains else params
    step, job, key = evaluate.testing(packed, params, [job.task for job in packed.jobs], "test", prompts, CPU)
    return lambda: (step, job, {}, key)


def assert_as_by_cpu(given: Callable[[], Given], form: Form, steps: int) -> None:
    """On some blocks and in some order of threads, and in another order the same bits."""
    one, other = (by_kernel(given(), form, Emulated(2, order), [steps]) for order in (0, 1))
    assert_close(one, by_cpu(given(), form, [steps]))
    assert_same_bits(one, other)


LEARNED = [s for s in CASES + TOKENS if s.trains]
every = pytest.mark.parametrize(
    ("form", "solver"),
    [pytest.param("unrolled", s, id=label(s)) for s in CASES + TOKENS]
    + [pytest.param("looped", s, id=f"looped {label(s)}") for s in (CASES + TOKENS)[::3]],
)
learned = pytest.mark.parametrize(
    ("form", "solver"),
    [pytest.param("unrolled", s, id=label(s)) for s in LEARNED]
    + [pytest.param("looped", s, id=f"looped {label(s)}") for s in LEARNED[::3]],
)


@learned
def test_training_as_by_the_cpu(solver, form):
    assert_as_by_cpu(trained(solver), form, 3)


@every
def test_tests_as_by_the_cpu(solver, form):
    assert_as_by_cpu(step_of_test(solver), form, 1)
