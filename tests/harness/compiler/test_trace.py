"""A trace: what it refuses, what it must tell apart, and that it is a matter of its own thread."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from lfombench.harness.compiler.interpreter import operation_of
from lfombench.harness.compiler.ir import PROMPTS, NotLowerable
from lfombench.harness.compiler.known import shapes
from lfombench.harness.compiler.lower import lowering
from lfombench.harness.compiler.select import program
from lfombench.harness.compiler.step import Step
from lfombench.harness.compiler.streams import keys
from lfombench.harness.compiler.trace import trace
from lfombench.harness.compiler.tracer import VALUE, Tracer
from lfombench.harness.training.training_step import training
from lfombench.solvers import GdPlusPlus, LinearTransformer, Memformer
from tests.programs import CPU, pack

OTHER = torch.tensor([1.0, 2.0])


def step_of(operation, dtype=torch.float64) -> Step:
    """A step whose record is an operation on prompts `1 2 prompts`."""

    def update(job, state, batch, t):
        return {}, {"value": operation(batch).unsqueeze(0)}

    return Step(lambda job, random, n: random.normal(2, n), update, 13, 1, dtype)


REFUSED = {
    "branch": (lambda x: x if x.sum() > 0 else -x, "a branch on a value"),
    "number": (lambda x: x * float(x.mean()), "a branch on a value, or a size or number made of one"),
    "list": (lambda x: x * x.sum().tolist(), "tolist"),
    "closed over": (lambda x: x * OTHER[:, None], "a tensor that the step is not given"),
    "numbers of values": (lambda x: x[:, x[0, 0] > 0], "a size or number made of one"),
    "no rule": (lambda x: x.sort(-2).values, "the operation aten.sort"),
}


@pytest.mark.parametrize(("operation", "said"), REFUSED.values(), ids=REFUSED)
def test_what_has_no_shape_alone_is_refused_with_the_reason(operation, said):
    with pytest.raises(NotLowerable, match=said):
        program(step_of(operation), {}, {}, keys([("x",)], CPU), 1, "looped")


@pytest.mark.parametrize("operation", [operation for operation, _ in [*REFUSED.values()][:-1]], ids=[*REFUSED][:-1])
def test_the_line_that_a_trace_ends_at_is_named(operation):
    """Whoever refuses it, PyTorch or the tracer; what is without a rule the trace has passed."""
    with pytest.raises(NotLowerable, match=r", in test_trace\.py:\d+: .*lambda x: "):
        trace(step_of(operation), (), ())


def test_errors_of_a_step_stay_what_they_are():
    def wrong(x):
        raise ValueError("mine")

    with pytest.raises(ValueError, match=r"^mine$"):
        trace(step_of(wrong), (), ())


def test_a_tensor_that_is_kept_from_a_trace_is_refused_later():
    kept = []

    def operation(x):
        kept.append(x)
        return x

    trace(step_of(operation), (), ())
    with pytest.raises(NotLowerable, match="kept from a trace"):
        kept[0].exp()


def values(operation) -> list[tuple[tuple[int, ...], torch.dtype]]:
    """Shape and type of what each operation of a step gives."""
    nodes = trace(step_of(operation), (), ()).graph.nodes
    return [(tuple(n.meta[VALUE].shape), n.meta[VALUE].dtype) for n in nodes if operation_of(n) in ("mul", "ones")]


def test_numbers_that_are_equal_and_of_different_types_are_told_apart():
    """2, 2.0 and True are equal to Python, and make different types."""

    def operation(x):
        whole = torch.arange(2)
        return x + sum((whole * number).unsqueeze(1) for number in (2, 2.0, True))

    assert [dtype for _, dtype in values(operation)] == [torch.int64, torch.float32, torch.int64]


def test_the_default_type_is_that_of_the_trace():
    def operation(x):
        return x * torch.ones(2, 1)

    assert values(operation)[0] == ((2, 1), torch.float32)
    torch.set_default_dtype(torch.float64)
    try:
        assert values(operation)[0] == ((2, 1), torch.float64)
    finally:
        torch.set_default_dtype(torch.float32)


def test_results_have_the_shapes_and_strides_that_pytorch_gives():
    """Also the second time, when they are remembered."""

    def run(x, y):
        z = x.transpose(1, 2) @ x
        return [z, z.mT * y, x.expand(3, 2, 5), (x > 0).to(torch.int32) * 2.0, x.sum(1, keepdim=True) / y[:, :1]]

    x, y = torch.randn(3, 2, 5), torch.randn(3, 5, 5)
    expected = [(r.shape, r.stride(), r.dtype) for r in run(x, y)]
    for _ in range(2):
        tracer = Tracer()
        given = tracer.input("x", (3, 2, 5), torch.float32), tracer.input("y", (3, 5, 5), torch.float32)
        with tracer:
            found = run(*given)
        assert [(r.shape, r.stride(), r.dtype) for r in found] == expected


def test_what_is_made_of_numbers_is_a_constant():
    operation = step_of(lambda x: x * torch.tensor([1.0, 2.0])[:, None] + torch.from_numpy(np.array([[0.5], [0.1]])))
    assert sorted(x.flatten().tolist() for x in trace(operation, (), ()).constants.values()) == [[0.5, 0.1], [1.0, 2.0]]


@pytest.mark.parametrize("form", ["unrolled", "looped"])
def test_changes_in_place_are_changes(form):
    def operation(x):
        y = x.clone()
        y[:, 0] += 1
        y.mul_(2)
        view = y[:, 1]
        y.add_(x)
        return y * view.unsqueeze(1)

    found = [program(step_of(operation), {}, {}, keys([("x",)], CPU), 1, e)(0, 1)["value"] for e in (form, "eager")]
    assert torch.allclose(found[0][..., :13], found[1])


def test_threads_that_trace_at_once_do_not_disturb_each_other():
    solvers = [
        LinearTransformer(depth=3, preconditioner="full"),
        Memformer(depth=2, memory="cgd", preconditioner="scalar"),
        GdPlusPlus(depth=2),
        Memformer(depth=2, memory="lfom", preconditioner="diagonal", gate="token"),
    ]

    def text(solver) -> str:
        step, job, state, _ = training(pack(solver), CPU)
        return lowering(step, shapes(job, 1), shapes(state, 2)).lowered("looped", lines=True).source

    alone = [text(solver) for solver in solvers]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(text, solvers * 4))
    assert together == alone * 4
    assert str(PROMPTS) not in "".join(alone)
