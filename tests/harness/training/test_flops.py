"""Operations that are counted, against what they are by hand. d = 5, n = 20."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import pytest
import torch

from lfombench.harness.training import flops
from lfombench.harness.training.execute import execute
from lfombench.solvers import GradientDescent, LinearTransformer, Memformer, Method, SoftmaxTransformer
from tests.builders import order
from tests.trainings import CPU, TASK, jobs

d, n = TASK.d, TASK.n
GRADIENT = 2 * d * d + d  # G w - b, with d * d products and as many summands


def counted(solver) -> list[int] | None:
    rows = execute(order(jobs(solver, seeds=[0, 1])), CPU).tables["jobs"].to_pylist()
    assert rows[0]["flops"] == rows[1]["flops"]
    return rows[0]["flops"]


@pytest.mark.parametrize(
    ("solver", "layer"),
    [
        (GradientDescent(depth=3, step=0.1), GRADIENT + 2 * d),  # a number times a vector, a difference
        (GradientDescent(depth=3, step=0.1, preconditioner="covariance"), GRADIENT + 2 * d + 4 * d * d),
        (LinearTransformer(depth=3, preconditioner="scalar"), GRADIENT + 2 * d),
        (LinearTransformer(depth=3, preconditioner="full"), GRADIENT + 2 * d * d + d),
    ],
    ids=["descent", "preconditioned", "scalar", "full"],
)
def test_each_layer_takes_what_its_formula_has(solver, layer):
    assert counted(solver) == [layer, 2 * layer, 3 * layer]


def test_a_memory_of_all_layers_grows_with_them_and_one_of_the_last_does_not():
    costs = [counted(Memformer(depth=4, memory=memory, preconditioner="full")) for memory in ("cgd", "lfom")]
    each, every = ([b - a for a, b in pairwise(one)] for one in costs)
    assert each[1] == each[2]
    assert every[2] - every[1] == every[1] - every[0] == 2 * d  # one product and one summand for each past layer


def test_attention_pays_for_each_pair_of_tokens():
    costs = counted(SoftmaxTransformer(depth=2))
    scores = 2 * d * d * (n + 1) + 2 * d * n * (n + 1)  # A x_j, <x_i, A x_j>
    weights = (n - 1) * (n + 1) + 2 * n * (n + 1)  # the largest, differences to it, exponentials
    means = 2 * n * (n + 1) + n * (n + 1) + (n + 1)
    assert costs[1] - costs[0] == scores + weights + means + 2 * (n + 1) + 1  # c times them, added; the prediction


@dataclass(frozen=True, kw_only=True)
class Matrix(Method):
    """Squares a matrix that no prompt has a part in, and multiplies vectors by it."""

    family: ClassVar = "classical"

    def iterates(self, params, problem) -> Iterator[torch.Tensor]:
        w = problem.start()
        yield w
        for _ in range(self.depth):
            square = torch.eye(d, dtype=w.dtype) @ torch.eye(d, dtype=w.dtype)
            w = square @ w
            yield w


def test_products_count_and_what_all_prompts_share_does_not():
    assert counted(Matrix(depth=2)) == [2 * d * d, 4 * d * d]


@dataclass(frozen=True, kw_only=True)
class Solved(Method):
    """Newton's step by a library's solver, whose operations are not counted."""

    family: ClassVar = "classical"

    def iterates(self, params, problem) -> Iterator[torch.Tensor]:
        w = problem.start()
        yield w
        for _ in range(self.depth):
            w = w - torch.linalg.solve(torch.eye(d, dtype=w.dtype), problem.gradient(w))
            yield w


@dataclass(frozen=True, kw_only=True)
class Soft(Method):
    """A softmax, a largest number, a running sum."""

    family: ClassVar = "classical"

    def iterates(self, params, problem) -> Iterator[torch.Tensor]:
        w = problem.start()
        yield w
        for _ in range(self.depth):
            w = torch.softmax(w, -2).cumsum(-2) - w.max(-2, keepdim=True).values
            yield w


def test_what_cannot_be_counted_is_unknown_and_not_free(monkeypatch):
    assert counted(Solved(depth=2)) is None
    monkeypatch.setattr(flops, "_after_steps", lambda *_: pytest.fail("what is not known was counted again"))
    assert counted(Solved(depth=2)) is None
    monkeypatch.undo()
    assert counted(Soft(depth=1)) == [5 * d + d + d + d]
