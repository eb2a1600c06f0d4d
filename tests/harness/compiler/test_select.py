"""What is not compiled, and what is then said."""

from __future__ import annotations

import logging

import pytest
import torch

from lfombench.harness.compiler.ir import NotLowerable
from lfombench.harness.compiler.native import Native
from lfombench.harness.compiler.select import program
from lfombench.harness.compiler.step import Eager, Step
from lfombench.harness.compiler.streams import keys
from lfombench.harness.training.training_step import training
from lfombench.solvers import LinearTransformer
from tests.programs import CPU, pack


def test_what_cannot_be_lowered_says_so_and_runs_eagerly(caplog):
    def update(job, state, batch, t):
        return {}, {"value": torch.linalg.det(torch.einsum("jip,jkp->jik", batch, batch)).unsqueeze(0)}

    step = Step(lambda job, random, n: random.normal(4, n), update, 16, 1, torch.float64)
    key = keys([("x",)], CPU)
    with pytest.raises(NotLowerable, match=r"the operation aten\._linalg_det"):
        Native(step, {}, {}, key, "looped")
    with caplog.at_level(logging.WARNING):
        run = program(step, {}, {}, key, calls=9_000)  # enough for machine code to pay, not for torch.compile
    found = run(0, 2)["value"]
    assert found.shape == (2, 1, 1)
    assert "runs eagerly, not compiled: the operation aten._linalg_det" in caplog.text


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_what_nothing_compiles_runs_eagerly(caplog):
    """A solver that branches on a value."""

    def update(job, state, batch, t):
        return {}, {"value": (batch if batch.sum() > 0 else -batch).sum((1, 2)).unsqueeze(0)}

    step = Step(lambda job, random, n: random.normal(4, n), update, 16, 1, torch.float64)
    with caplog.at_level(logging.WARNING):
        run = program(step, {}, {}, keys([("x",)], CPU), calls=11_000)
    assert isinstance(run, Eager)
    assert run(0, 2)["value"].min() > 0
    assert "runs eagerly, not compiled: a branch on a value" in caplog.text
    assert "; torch.compile:" in caplog.text


def test_numbers_without_a_type_in_c_run_eagerly(caplog):
    given = pack(LinearTransformer(depth=1, preconditioner="full"), steps=500, batch=64, dtype="bfloat16")
    step, job, state, key = training(given, CPU)
    assert isinstance(program(step, job, state, key, calls=500), Eager)
    assert "runs eagerly, not compiled: numbers of type bfloat16" in caplog.text
