"""Kernels against the CPU, by PyTorch and by its machine code, on an emulated device: what they mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from lfombench.harness.compiler import device, tile
from lfombench.harness.compiler import kernel as kernels
from lfombench.harness.compiler.device import kernel
from lfombench.harness.compiler.known import shapes
from lfombench.harness.compiler.lower import Form
from lfombench.harness.compiler.native import lowering_of
from lfombench.harness.compiler.select import program
from lfombench.harness.compiler.step import Step
from lfombench.harness.compiler.streams import keys
from lfombench.harness.spec.labels import label
from tests.device.emulated import Emulated
from tests.device.kernels import (
    FORMS,
    MEMORY,
    ORDERS,
    anonymous,
    assert_as_by_cpu,
    assert_close,
    assert_same_bits,
    by_cpu,
    by_kernel,
)
from tests.device.steps import LEARNED, PROMPTS, TESTED, Given, step_of_test, trained
from tests.operations import EDGES, at_edges, tensors, update
from tests.programs import CPU

pytestmark = pytest.mark.usefixtures("played_kernels")


# Operations.


def operations(dtype: torch.dtype, renew: int | None) -> Callable[[], Given]:
    """A step of all operations and their gradients, of three jobs."""
    step = Step(lambda job, random, n: random.normal(4, n), update, PROMPTS, renew, dtype)
    names = keys([("x", i) for i in range(3)], CPU)
    return lambda: (step, *tensors(dtype), names)


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("form", FORMS)
def test_functions_where_they_are_easily_wrong(form, dtype):
    step = Step(lambda job, random, n: random.uniform(1, n), at_edges, PROMPTS, None, dtype)
    given: Given = (step, {"x": torch.tensor([EDGES], dtype=dtype)}, {}, keys([("x",)], CPU))
    found = by_kernel(given, form, Emulated(), [1])["value"][..., :PROMPTS]
    expected = program(*given, 1, "eager")(0, 1)["value"]
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0.0, equal_nan=True)


@pytest.mark.parametrize("renew", [1, 3, None])
@pytest.mark.parametrize("form", FORMS)
def test_a_step_without_state_draws_what_its_number_says(form, renew):
    """As a test is, which is one step; here of several, and not from the first on."""

    def update(job, state, batch, t):
        return {}, {"value": batch.sum((1, 2)).unsqueeze(0)}

    step = Step(lambda job, random, n: random.normal(4, n), update, PROMPTS, renew, torch.float32)
    given: Given = (step, {}, {}, keys([("x", 0)], CPU))
    for first in (0, 1):
        assert_close(by_kernel(given, form, Emulated(), [4], first), by_cpu(given, form, [4], first))


# Solvers.


def in_forms(solvers: Sequence[Any], some: int) -> Any:
    """All of them in the unrolled form, and some in the other."""
    return pytest.mark.parametrize(
        ("form", "solver"),
        [pytest.param("unrolled", s, id=label(s)) for s in solvers]
        + [pytest.param("looped", s, id=f"looped {label(s)}") for s in solvers[::some]],
    )


@in_forms(LEARNED, 7)
def test_training_as_by_the_cpu(solver, form):
    assert_as_by_cpu(trained(solver), form, 3)


@in_forms(TESTED, 5)
def test_tests_as_by_the_cpu(solver, form):
    assert_as_by_cpu(step_of_test(solver), form, 1)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("prompts", "renew"), [(1, 1), (32, 3), (256, 1), (300, 1), (300, 3)])
def test_prompts_of_any_number(prompts, form, renew):
    """A single one, a full warp, a full block, and a tile more than one."""
    assert_as_by_cpu(trained(MEMORY, batch=prompts, renew=renew), form, 2)


@pytest.mark.parametrize(
    ("make", "steps"),
    [
        (trained(MEMORY, dtype="float64"), 3),
        (trained(MEMORY, dtype="float64", renew=3), 3),
        (step_of_test(MEMORY), 1),
    ],
    ids=["training", "training, drawn before", "test"],
)
def test_threads_that_pause_do_not_change_what_others_draw(make, steps):
    """Variates are narrower than the numbers made of them: the same bytes would be one thread's and another's."""
    one, other, by_chance = (by_kernel(make(), "looped", Emulated(2, order), [steps]) for order in ORDERS)
    assert_same_bits(one, other)
    assert_same_bits(one, by_chance)


# What memory there is.


def small(**limits: int) -> Any:
    """A name of less room than usual."""
    return pytest.param(limits, id=", ".join(f"{name}={n}" for name, n in limits.items()))


def source_of(given: Given, form: Form) -> str:
    step, job, state, _ = given
    return kernel(lowering_of(step, shapes(job, 1), shapes(state, 2)), form).source


@pytest.mark.parametrize("limits", [small(SHARED=6000), small(REGISTERS=0), small(ROWS=0)])
def test_numbers_that_have_no_room_are_elsewhere(limits, monkeypatch):
    """Members in scratch memory, sums of products in memory after each tile, and sums by each thread."""
    make = trained(MEMORY, renew=3, batch=300)
    usual = source_of(make(), "unrolled")
    for name, n in limits.items():
        monkeypatch.setattr(kernels if name == "SHARED" else tile, name, n)
    assert source_of(make(), "unrolled") != usual
    step, *_ = anonymous(make())
    assert_as_by_cpu(lambda: (step, *make()[1:]), "unrolled", 3)


def test_a_kernel_that_no_device_has_the_shared_memory_for_is_looped(monkeypatch):
    """As where each thread has thousands of sums over prompts, which pass through it."""
    make = trained(MEMORY)
    assert source_of(make(), "unrolled") != source_of(make(), "looped")
    monkeypatch.setattr(device, "LARGEST", 1000)
    assert source_of(make(), "unrolled") == source_of(make(), "looped")


@pytest.mark.parametrize("form", FORMS)
def test_a_looped_and_an_unrolled_kernel_without_shared_memory(form, monkeypatch):
    make = trained(MEMORY)
    expected = by_kernel(make(), form, Emulated(2, 1), [3])
    monkeypatch.setattr(kernels, "SHARED", 0)
    assert_same_bits(by_kernel(anonymous(make()), form, Emulated(2, 1), [3]), expected)
