"""Kernels on the host that plays a device, beside the CPU: running both, and comparing them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from lfombench.harness.compiler.lower import Form
from lfombench.harness.compiler.on_device import Driver, OnDevice
from lfombench.harness.compiler.select import Engine, program
from lfombench.harness.compiler.step import Tensors
from lfombench.solvers import Memformer
from tests.device.emulated import Emulated
from tests.device.steps import Given

FORMS: list[Form] = ["unrolled", "looped"]
ORDERS = (0, 1, 7)  # of threads: forwards, backwards and by chance
MEMORY = Memformer(depth=2, memory="cgd", preconditioner="full")


def by_kernel(given: Given, form: Form, driver: Driver, calls: Sequence[int], first: int = 0) -> Tensors:
    """Records of all calls, one after the other, and the state after them."""
    return after(OnDevice(*given, form, driver), given, calls, first)


def by_cpu(given: Given, how: Engine, calls: Sequence[int], first: int = 0) -> Tensors:
    """The same by the CPU, as machine code or as PyTorch runs it."""
    return after(program(*given, sum(calls), how), given, calls, first)


def after(run: Any, given: Given, calls: Sequence[int], first: int) -> Tensors:
    """Records of all calls of a program, and the state after them."""
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


def assert_close(ours: Tensors, theirs: Tensors, tolerance: float = 1e-3) -> None:
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


def assert_as_by_cpu(given: Callable[[], Given], form: Form, steps: int) -> None:
    """On some blocks and in some order of threads, and in another order the same bits."""
    one, other = (by_kernel(given(), form, Emulated(2, order), [steps]) for order in (0, 1))
    assert_close(one, by_cpu(given(), "eager", [steps]))
    assert_same_bits(one, other)


def anonymous(given: Given) -> Given:
    """The same step, of which nothing is known."""
    step, *tensors = given
    return replace(step, name=object(), identity=None), *tensors
