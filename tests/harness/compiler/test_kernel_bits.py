"""What a member's bits depend on, where kernels compute them: on nothing but itself."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence

import pytest
import torch

from lfombench.harness.compiler import on_device
from lfombench.harness.compiler.on_device import OnDevice
from lfombench.harness.compiler.step import Tensors
from lfombench.harness.spec.job import Job
from lfombench.harness.training.training_step import training
from tests.builders import order as pack_of
from tests.device.emulated import Emulated, Function
from tests.device.kernels import (
    FORMS,
    MEMORY,
    assert_same_bits,
    by_kernel,
)
from tests.device.steps import PROMPTS, TASK, step_of_test, trained
from tests.programs import CPU, pack

pytestmark = pytest.mark.usefixtures("played_kernels")


def of_member(found: Tensors, trial: int, job: int) -> Tensors:
    """One member's part of the records, `steps trials jobs ...`, and of the state, `trials jobs ...`."""
    return {name: x[trial, job] if name.startswith("state") else x[:, trial, job] for name, x in found.items()}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("renew", [1, 3])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_member_that_is_not_a_number_harms_no_other(value, renew, form):
    """It is the first that a block takes, and the others follow in the same memory."""
    make = trained(MEMORY, renew=renew)
    healthy = by_kernel(make(), form, Emulated(1), [4])
    given = make()
    given[2]["p.A"][0, 0].flatten()[0] = value
    found = by_kernel(given, form, Emulated(1), [4])
    assert not found["loss"][:, 0, 0].isfinite().any()
    for trial, job in [(0, 1), (1, 0), (1, 1)]:
        assert_same_bits(of_member(found, trial, job), of_member(healthy, trial, job))
        assert of_member(found, trial, job)["loss"].isfinite().all()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["training", "test"])
def test_bits_do_not_depend_on_the_number_of_blocks(kind, form):
    make, steps = (trained(MEMORY), 4) if kind == "training" else (step_of_test(MEMORY), 1)
    found = [by_kernel(make(), form, Emulated(blocks), [steps]) for blocks in (1, 3, 16)]
    for other in found[1:]:
        assert_same_bits(found[0], other)


@pytest.mark.parametrize("form", FORMS)
def test_bits_do_not_depend_on_a_packs_other_members(form):
    jobs = pack(MEMORY, jobs=3, task=TASK, batch=PROMPTS).jobs

    def run(chosen: Sequence[Job]) -> Tensors:
        return by_kernel(training(pack_of(chosen), CPU), form, Emulated(2), [4])

    together, turned = run(jobs), run(jobs[::-1])
    for j, job in enumerate(jobs):
        alone = run([job])
        for trial in (0, 1):
            assert_same_bits(of_member(alone, trial, 0), of_member(together, trial, j))
            assert_same_bits(of_member(turned, trial, 2 - j), of_member(together, trial, j))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("renew", [1, 3, None])
def test_bits_do_not_depend_on_how_steps_are_cut_into_calls_and_launches(renew, form, monkeypatch):
    make = trained(MEMORY, renew=renew)
    together = by_kernel(make(), form, Emulated(2), [7])
    assert_same_bits(by_kernel(make(), form, Emulated(2), [5, 2]), together)
    assert_same_bits(by_kernel(make(), form, Emulated(2), [1] * 7), together)
    monkeypatch.setattr(on_device, "LAUNCH", 2)
    started: list[int] = []
    monkeypatch.setattr(Function, "launch", _noting(started, Function.launch))
    assert_same_bits(by_kernel(make(), form, Emulated(2), [7]), together)
    assert started == [2, 2, 2, 1]


def _noting(started: list[int], launch: Callable[..., None]) -> Callable[..., None]:
    """A launch that notes how many steps it is asked for."""

    def noted(self: Function, grid: int, arguments: ctypes.Structure) -> None:
        started.append(arguments.numbers[3])
        launch(self, grid, arguments)

    return noted


@pytest.mark.parametrize("form", FORMS)
def test_prompts_from_some_number_on_are_those_of_a_longer_test(form):
    """The second half of 64 prompts, by themselves: to rounding, as they are summed up with nothing."""
    whole = by_kernel(step_of_test(MEMORY, 64)(), form, Emulated(2), [1])
    half = OnDevice(*step_of_test(MEMORY, 32)(), form, Emulated(2))(0, 1, 32)
    assert torch.equal(half["error"], whole["error"][..., 32:])
