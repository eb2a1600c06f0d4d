"""Machine code against PyTorch, operation by operation."""

from __future__ import annotations

import pytest
import torch

from lfombench.harness.compiler.ir import NotLowerable
from lfombench.harness.compiler.select import program
from lfombench.harness.compiler.step import Step
from lfombench.harness.compiler.streams import keys
from lfombench.harness.compiler.trace import trace
from tests.operations import EDGES, OPERATIONS, at_edges, tensors, update
from tests.programs import CPU


@pytest.mark.parametrize(
    ("form", "dtype"),
    [("unrolled", torch.float32), ("unrolled", torch.float64), ("looped", torch.float32), ("looped", torch.float64)],
)
def test_operations_and_their_gradients(dtype, form):
    """Every rule, forward and backward, all in one program, on a batch that does not fill its last eight."""

    found = []
    for engine in (form, "eager"):
        step = Step(lambda job, random, n: random.normal(4, n), update, 13, 1, dtype)
        job, state = tensors(dtype)
        records = program(step, job, state, keys([("x", i) for i in range(3)], CPU), 3, engine)(0, 3)
        found.append((records, state))
    for part, (ours, theirs) in {"value": (found[0][0], found[1][0]), "gradient": (found[0][1], found[1][1])}.items():
        for name in OPERATIONS:
            assert torch.allclose(ours[name], theirs[name], rtol=2e-5, atol=1e-4), f"{part} of {name}"


@pytest.mark.parametrize("form", ["unrolled", "looped"])
def test_a_long_chain_of_operations_is_not_a_deep_one(form):
    """As the largest of 500 numbers, compared one by one, or a product of as many factors."""

    def update(job, state, batch, t):
        value = batch
        for _ in range(500):
            value = torch.maximum(value * 0.999, batch) + 0.001
        return {}, {"value": value.sum((1, 2)).unsqueeze(0)}

    step = Step(lambda job, random, n: random.normal(2, n), update, 13, 1, torch.float64)
    found = [program(step, {}, {}, keys([("x",)], CPU), 1, engine)(0, 1)["value"] for engine in (form, "eager")]
    assert torch.allclose(*found)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("form", ["unrolled", "looped"])
def test_functions_where_they_are_easily_wrong(form, dtype):
    """Above all a nan must stay one: a diverged member is known by it."""
    step = Step(lambda job, random, n: random.uniform(1, n), at_edges, 13, None, dtype)
    job = {"x": torch.tensor([EDGES], dtype=dtype)}
    ours, theirs = (program(step, job, {}, keys([("x",)], CPU), 1, e)(0, 1)["value"][..., :13] for e in (form, "eager"))
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0.0, equal_nan=True)


def test_extremes_of_numbers_that_are_none_are_none():
    """A nan in either place, as in PyTorch; infinities as they come; and exponentials past what a float can hold."""

    def update(job, state, batch, t):
        none = batch * torch.tensor(float("nan"))
        large = 1e30 * (batch + 2)
        values = [
            torch.maximum(none, batch),
            torch.minimum(batch, none),
            torch.relu(none),
            (large * 1e5).exp(),
            (-large).exp(),
            none.exp(),
            torch.maximum(batch, large * 1e30),
        ]
        return {}, {"value": torch.cat(values, 1).unsqueeze(0)}

    step = Step(lambda job, random, n: random.uniform(2, n), update, 13, None, torch.float32)
    found = [program(step, {}, {}, keys([("x",)], CPU), 1, engine)(0, 1)["value"] for engine in ("looped", "eager")]
    ours, theirs = found[0][..., :13], found[1]
    assert torch.equal(ours.isnan(), theirs.isnan())
    assert torch.allclose(ours.nan_to_num(), theirs.nan_to_num(), rtol=1e-6)


def test_what_is_written_twice_is_computed_once_and_constants_alike_are_one():
    def update(job, state, batch, t):
        values = [
            (batch * torch.tensor(numbers).reshape(shape)).exp()
            for numbers, shape in [
                ([1.0, 2.0], (2, 1)),
                ([1.0, 2.0], (2, 1)),
                ([1.0, -2.0], (2, 1)),
                ([0.0], (1, 1)),
                ([-0.0], (1, 1)),
            ]
        ]
        return {}, {"value": torch.cat([x[:, :1] for x in values], 1).unsqueeze(0)}

    step = Step(lambda job, random, n: random.normal(2, n), update, 13, None, torch.float32)
    nodes = trace(step, (), ()).graph.nodes
    assert [str(node.target) for node in nodes].count("aten.exp.default") == 4
    found = [program(step, {}, {}, keys([("x",)], CPU), 1, engine)(0, 1)["value"] for engine in ("looped", "eager")]
    assert torch.allclose(found[0][..., :13], found[1])


def test_a_rule_for_a_division_that_rounds_is_missing_and_said_to_be():
    def update(job, state, batch, t):
        return {}, {"value": torch.div(batch, 2.0, rounding_mode="floor").unsqueeze(0)}

    step = Step(lambda job, random, n: random.normal(2, n), update, 13, None, torch.float64)
    with pytest.raises(NotLowerable, match="a division that rounds: floor"):
        program(step, {}, {}, keys([("x",)], CPU), 1, "looped")
