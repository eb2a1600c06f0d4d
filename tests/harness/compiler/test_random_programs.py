"""Random programs: whatever a step is made of, machine code gives the numbers and the gradients that PyTorch gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from lfombench.harness.compiler import symmetry
from lfombench.harness.compiler.select import Engine, program
from lfombench.harness.compiler.step import Step
from lfombench.harness.compiler.streams import keys
from tests.programs import CPU

PROMPTS = 21  # which no machine's vectors divide
ROWS, COLUMNS = 3, 2

BINARY: dict[str, Any] = {
    "add": lambda x, y: x + y,
    "subtract": lambda x, y: torch.sub(x, y, alpha=0.5),
    "multiply": lambda x, y: x * y,
    "divide": lambda x, y: x / (1 + y * y),
    "larger": torch.maximum,
    "choose": lambda x, y: torch.where((x > y) | (y < -1), x, 2 * y),
    "product": lambda x, y: (x.unsqueeze(-2) * y.transpose(-2, -3).unsqueeze(-4)).sum(-3),
    "beside": lambda x, y: torch.cat([x, y], -3) if x.shape[-2] == y.shape[-2] else x,
}


def _square(x: Tensor) -> Tensor:
    """A symmetric matrix."""
    return (x.unsqueeze(-3) * x.unsqueeze(-4)).sum(-2) / x.shape[-2]


UNARY: dict[str, Any] = {
    "negate": lambda x: -x,
    "exponential": lambda x: x.tanh().exp(),
    "logarithm": lambda x: (1 + x * x).log(),
    "root": lambda x: (0.1 + x.square()).sqrt(),
    "sigmoid": torch.sigmoid,
    "positive": lambda x: torch.relu(x) + x.abs(),
    "turned": lambda x: x.transpose(-2, -3),
    "sum of rows": lambda x: x.sum(-3, keepdim=True),
    "sum of all": lambda x: x.sum((-3, -2), keepdim=True),
    "norm": lambda x: (0.1 + x.square().sum(-2, keepdim=True)).sqrt(),
    "first": lambda x: x[..., :1, :, :],
    "every other": lambda x: x[..., ::2, :, :],
    "none": lambda x: torch.cat([x[..., :0, :, :], x], -3),
    "reversed": lambda x: x[..., torch.arange(x.shape[-3] - 1, -1, -1), :, :],
    "flat": lambda x: x.flatten(-3, -2).unsqueeze(-2),
    "symmetric": _square,
    "along an axis": lambda x: (_square(x) * torch.eye(x.shape[-3], dtype=x.dtype)[0, :, None]).sum(-2, keepdim=True),
    "curved": lambda x: (_square(x) * x[..., 0, :].unsqueeze(-3)).sum(-2, keepdim=True),
    "overwritten": lambda x: torch.select_scatter(x, 2 * x[..., 0, :, :], x.dim() - 3, x.shape[-3] - 1),
}


def broadcastable(x: Tensor, y: Tensor) -> bool:
    return all(a == b or 1 in (a, b) for a, b in zip(x.shape[-3:-1], y.shape[-3:-1], strict=True))


def run(instructions: list[tuple[str, int, int]], values: list[Tensor]) -> Tensor:
    """The instructions in turn, each on the results of two before it; their weighted sum."""
    values = list(values)
    for name, i, j in instructions:
        x, y = values[i % len(values)], values[j % len(values)]
        if name in UNARY:
            found = UNARY[name](x)
        elif name == "product":
            found = BINARY[name](x, y) if x.shape[-2] == y.shape[-2] else x
        elif name == "beside":
            found = BINARY[name](x.expand_as(x + 0 * y[..., :1, :1, :]), y.expand_as(y + 0 * x[..., :1, :1, :]))
        else:
            found = BINARY[name](x, y) if broadcastable(x, y) else x
        if found.shape[-3] * found.shape[-2] <= 60:  # products grow
            values.append(found / (1 + found.abs()))  # and would leave the range of float32
    return sum((k + 1) * x.sum((-3, -2)) for k, x in enumerate(values[-4:]))


def results(instructions: list[tuple[str, int, int]], dtype: torch.dtype, engine: Engine) -> list[Tensor]:
    """The value of every prompt, the sum over them, and its gradient, after two steps."""

    def update(job, state, batch, t):
        def total(p):
            member = [p[:, :, :, :, None], job["q"][:, :, :, None]]
            value = run(instructions, [*member, batch, batch * batch])
            value = value + 0 * (batch.sum((-3, -2)) + p.sum((-2, -1)).unsqueeze(-1))  # trials jobs prompts
            return value.sum(), value

        gradient, value = torch.func.grad(total, has_aux=True)(state["p"])
        return {"p": state["p"] - 0.01 * gradient}, {"loss": value.sum(-1), "gradient": gradient}

    step = Step(lambda job, random, n: random.normal(ROWS, COLUMNS, n), update, PROMPTS, 1, dtype)
    state = {"p": torch.linspace(-1, 1, 2 * ROWS * COLUMNS, dtype=dtype).view(1, 2, ROWS, COLUMNS)}
    job = {"q": torch.linspace(0.5, 1.5, 2 * ROWS * COLUMNS, dtype=dtype).view(2, ROWS, COLUMNS)}
    records = program(step, job, state, keys([("a",), ("b",)], CPU), 2, engine)(0, 2)
    return [records["loss"], records["gradient"], state["p"]]


instruction = st.tuples(st.sampled_from([*BINARY, *UNARY]), st.integers(0, 30), st.integers(0, 30))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(instruction, min_size=4, max_size=16),
    st.sampled_from([torch.float32, torch.float64]),
    st.sampled_from(["unrolled", "looped"]),
)
def test_a_random_program_is_what_is_written(instructions, dtype, form):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(symmetry, "LEAST", 2)  # rows of a symmetric matrix of which half is kept: these have few
        ours, theirs = (results(instructions, dtype, engine) for engine in (form, "eager"))
    for x, y in zip(ours, theirs, strict=True):
        assert torch.allclose(x, y, rtol=2e-4, atol=2e-4 * float(1 + y.abs().max()))
