"""What a step is said to consist of before it is traced, and what follows from it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lfombench.harness.compiler.census import Census, census
from lfombench.harness.compiler.known import shapes
from lfombench.harness.compiler.lower import lowering
from lfombench.harness.compiler.native import Native
from lfombench.harness.compiler.select import eager_seconds, native_seconds, pays, program
from lfombench.harness.compiler.step import Eager, Step
from lfombench.harness.compiler.streams import keys
from lfombench.harness.training import evaluate
from lfombench.harness.training.training_step import training
from lfombench.solvers import ConjugateGradient, Memformer, Newton, Solver
from lfombench.tasks import LinearRegression
from tests.programs import CPU, pack

ROOT = Path(__file__).parents[3]


def test_operations_numbers_and_variates_are_counted():
    def draw(job, random, n):
        return random.normal(4, 3, n), random.uniform(2, n)

    def update(job, state, batch, t):
        x, u = batch
        return {"w": state["w"] + 1.0}, {"value": (x * 2.0).sum((1, 2)) + u.sum(1)}

    state = {"w": torch.zeros(1, 1, 1)}
    found = census(Step(draw, update, 1000, 1, torch.float32), {}, state)
    assert found.variates == 4 * 3 + 2
    assert found.operations == 2 + 1 + 4  # draws, the state, the records
    assert found.numbers == 14 + 12 + 3
    assert state["w"] == 0


@pytest.mark.parametrize("d", [5, 20])
@pytest.mark.parametrize("solver", [ConjugateGradient(depth=4), Newton(depth=2)])
def test_a_census_agrees_with_the_trace_of_a_test(solver: Solver, d: int):
    given = pack(solver, task=LinearRegression(d=d, n=2 * d, noise=0.1))
    step, job, _ = evaluate.testing(given, {}, [one.task for one in given.jobs], "test", 64, CPU)
    rough, traced = census(step, job, {}), lowering(step, shapes(job, 1), ()).counts
    assert rough.variates == traced.variates
    assert rough.numbers == pytest.approx(traced.numbers, rel=0.25)
    assert rough.operations == pytest.approx(traced.operations, rel=0.5)


def test_a_census_of_a_training_step_counts_its_gradient():
    step, job, state, _ = training(pack(Memformer(depth=3, memory="cgd", preconditioner="full")), CPU)
    rough, traced = census(step, job, state), lowering(step, shapes(job, 1), shapes(state, 2)).counts
    assert rough.numbers == pytest.approx(traced.numbers, rel=0.25)
    assert rough.operations == pytest.approx(traced.operations, rel=0.5)


def test_a_census_does_not_depend_on_the_pack_and_leaves_global_streams_alone():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    found = []
    for jobs in (1, 4):
        step, job, state, _ = training(pack(Memformer(depth=2, memory="cgd", preconditioner="full"), jobs), CPU)
        found.append(census(step, job, state))
    assert found[0] == found[1]
    assert torch.equal(torch.rand(3), expected)


FRESH = """
import sys
from lfombench.harness.compiler.census import census
from lfombench.harness.training.evaluate import testing
from lfombench.solvers import ConjugateGradient
from tests.programs import CPU, TASK, pack
step, job, _ = testing(pack(ConjugateGradient(depth=2)), {}, [TASK, TASK], "test", 64, CPU)
census(step, job, {})
print({"sympy", "torch._dynamo"} & set(sys.modules))
"""


def test_a_census_imports_nothing_that_takes_a_second():
    """As torch.compile, which PyTorch would keep out of the way."""
    done = subprocess.run([sys.executable, "-c", FRESH], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "set()\n", done.stderr


def test_few_prompts_run_as_they_are_written_and_many_as_machine_code():
    given = pack(ConjugateGradient(depth=4), task=LinearRegression(d=5, n=10, noise=0.1))
    step, job, key = evaluate.testing(given, {}, [one.task for one in given.jobs], "test", 2048, CPU)
    assert isinstance(program(step, job, {}, key, calls=2), Eager)
    assert isinstance(program(step, job, {}, key, calls=200), Native)
    found = census(step, job, {})
    gains = [eager_seconds(found, step, n, n) - native_seconds(found, step, n) for n in (2, 20, 200)]
    assert gains == sorted(gains)


def test_what_runs_eagerly_for_little_is_not_traced():
    """A trace alone takes longer."""

    def update(job, state, batch, t):
        assert batch.shape[-1] in (16, 64)  # of a census and of the step; a trace has another number of prompts
        return {}, {"value": batch.sum((1, 2)).unsqueeze(0)}

    step = Step(lambda job, random, n: random.normal(4, n), update, 64, 1, torch.float64)
    run = program(step, {}, {}, keys([("x",)], CPU), calls=10)
    assert run(0, 2)["value"].shape == (2, 1, 1)


def test_a_step_is_counted_once_in_a_process_though_the_cache_cannot_know_it():
    runs = []

    def update(job, state, batch, t):
        runs.append(batch.shape[-1])
        return {}, {"value": batch.sum((1, 2)).unsqueeze(0)}

    step = Step(lambda job, random, n: random.normal(4, n), update, 64, 1, torch.float64)
    assert step.identity is None
    assert [program(step, {}, {}, keys([("x",)], CPU), calls=10).name for _ in range(3)] == ["eager"] * 3
    assert runs == [16]


def test_a_step_that_cannot_do_with_few_prompts_runs_eagerly(caplog):
    def update(job, state, batch, t):
        if batch.shape[-1] < 50:
            raise RuntimeError("too few prompts")
        return {}, {"value": batch.sum((1, 2)).unsqueeze(0)}

    step = Step(lambda job, random, n: random.normal(4, n), update, 64, 1, torch.float64)
    run = program(step, {}, {}, keys([("x",)], CPU), calls=10)
    assert isinstance(run, Eager)
    assert run(0, 2)["value"].shape == (2, 1, 1)
    assert "runs eagerly, not compiled: a run of 16 prompts: too few prompts" in caplog.text


def test_wider_numbers_and_more_calls_pay_sooner():
    step = Step(lambda *_: None, lambda *_: ({}, {}), 2048, 1, torch.float32)
    found = Census(operations=200, results={25: 48}, variates=30)
    assert not pays(found, step, 10, 10)
    assert pays(found, replace(step, dtype=torch.float64), 100, 100)
