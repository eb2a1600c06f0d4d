"""A compiled step knows one prompt at a time: what looks at others is refused, and never computed wrongly."""

from __future__ import annotations

import pytest
import torch

from lfombench.harness.compiler import ops
from lfombench.harness.compiler.ir import Array, NotLowerable
from lfombench.harness.compiler.select import program
from lfombench.harness.compiler.step import Step
from lfombench.harness.compiler.streams import keys
from tests.programs import CPU

ACROSS = {
    "first": lambda x: x - x[..., 0].unsqueeze(-1),
    "last": lambda x: x - x[..., -1:],
    "unbind": lambda x: x - x.unbind(-1)[0].unsqueeze(-1),
    "iterate": lambda x: x - next(iter(x.movedim(-1, 0))).unsqueeze(-1),
    "split": lambda x: x - x.split(1, -1)[0],
    "chunk": lambda x: x - x.chunk(13, dim=-1)[0],
    "shift": lambda x: torch.cat([x[..., 1:], x[..., :1]], -1),
    "twice": lambda x: torch.cat([x, x], -1),
    "padded": lambda x: torch.cat([x, torch.zeros(1, 2, 3)], -1),
    "index": lambda x: x - x[..., torch.tensor([2])],
    "roll": lambda x: x.roll(1, -1),
    "sum": lambda x: x - x.sum(-1, keepdim=True),
    "mean": lambda x: x - x.mean(-1, keepdim=True),
    "norm": lambda x: x / x.norm(dim=-1, keepdim=True),
    "product": lambda x: torch.einsum("jip,jkp->jik", x, x).sum(-1, keepdim=True) * x,
    "flat": lambda x: x.flatten(1).unsqueeze(1),
    "overwritten": lambda x: torch.select_scatter(x, torch.zeros(1, 2, dtype=x.dtype), -1, 0),
    "partly overwritten": lambda x: torch.slice_scatter(x, torch.zeros(1, 2, 2, dtype=x.dtype), -1, 0, 2),
    "softmax": lambda x: x.softmax(-1),
}


def of(operation, form):
    def update(job, state, batch, t):
        return {}, {"value": operation(2 * batch + 1).unsqueeze(0)}

    step = Step(lambda job, random, n: random.normal(2, n), update, 13, 1, torch.float64)
    return program(step, {}, {}, keys([("x",)], CPU), 1, form)(0, 1)["value"]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("form", ["unrolled", "looped"])
@pytest.mark.parametrize("operation", ACROSS.values(), ids=ACROSS)
def test_what_looks_at_other_prompts_is_refused(operation, form):
    with pytest.raises(NotLowerable):
        of(operation, form)


@pytest.mark.parametrize("form", ["unrolled", "looped"])
def test_a_rule_that_takes_another_prompt_is_refused(form, monkeypatch):
    """One that a newcomer could write, and that gave wrong numbers."""

    def flip(builder, value, x, axes):
        [axis] = (a % len(x.shape) for a in axes)
        order = builder.literal(range(x.shape[axis] - 1, -1, -1), (x.shape[axis],), "int64_t")

        def element(i):
            return x.at((*i[:axis], builder.lookup(order, (i[axis],), x.shape[axis]), *i[axis + 1 :]))

        return Array(tuple(value.shape), x.type, element)

    monkeypatch.setitem(ops.RULES, "flip", flip)
    assert torch.allclose(of(lambda x: x.flip(1), form)[..., :13], of(lambda x: x.flip(1), "eager"))
    with pytest.raises(NotLowerable, match="another order"):
        of(lambda x: x.flip(-1), form)


def test_a_rule_that_fails_is_named_with_its_line(monkeypatch):
    def broken(builder, value, x):
        raise TypeError("no such thing")

    monkeypatch.setitem(ops.RULES, "tanh", broken)
    with pytest.raises(TypeError) as caught:
        of(lambda x: x.tanh(), "looped")
    [note] = caught.value.__notes__
    assert "aten.tanh" in note
    assert "test_prompts_apart.py" in note
