"""What only a GPU can show. Needs neither the other tests' set-up nor Ray: `make gpu` runs it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lfombench.harness import PROTOCOLS, Job
from lfombench.harness.compiler.on_device import OnDevice
from lfombench.harness.compiler.select import program
from lfombench.harness.compiler.step import Step
from lfombench.harness.compiler.streams import keys
from lfombench.harness.scheduler.faults import Fault, run_pack
from lfombench.harness.scheduler.on_gpus import OnGpus
from lfombench.harness.store.outcome import Outcome
from lfombench.harness.training import train
from lfombench.harness.training.closed_form import fit
from lfombench.harness.training.execute import execute
from lfombench.harness.training.pack import Pack, WorkOrder
from lfombench.harness.training.step_profile import parts
from lfombench.harness.training.training_step import training
from lfombench.solvers import (
    BestKrylov,
    BestLfom,
    ConjugateGradient,
    GdPlusPlus,
    Lfom,
    LinearTransformer,
    Memformer,
    Newton,
)
from lfombench.tasks import LinearRegression

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no CUDA device"),
]
CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
TASK = LinearRegression(d=5, n=20, spectrum=(1.0, 1.0, 0.5, 0.25, 1.0))
SHORT = {"steps": 100, "batch": 200, "test_prompts": 300, "validation_prompts": 130, "learning_rates": (0.003, 0.01)}
LEARNED = [
    Memformer(depth=4, memory="cgd", preconditioner="full"),
    Memformer(depth=3, memory="lfom", preconditioner="full", gate="token"),
    GdPlusPlus(depth=3),
    Lfom(depth=3, coefficients="diagonal"),
    LinearTransformer(depth=2, preconditioner="scalar"),
]


def order(solver, jobs=3, task=TASK, use="rigorous", **options) -> WorkOrder:
    protocol = replace(PROTOCOLS[use], **(SHORT | options if use == "rigorous" else options))
    return WorkOrder(Pack(tuple(Job.of(task=task, solver=solver, protocol=protocol, seed=s) for s in range(jobs))))


def trained(given: WorkOrder, device: torch.device, count: int = 100):
    step, job, state, key = training(given, device)
    run = OnDevice(step, job, state, key) if device is GPU else program(step, job, state, key, count, "unrolled")
    losses = run(0, count)["loss"]
    return losses.cpu(), {name: x.cpu() for name, x in state.items()}


@pytest.mark.parametrize("solver", LEARNED, ids=lambda s: f"{type(s).__name__} {getattr(s, 'memory', '')}")
@pytest.mark.parametrize("renew", [1, None, 3])
def test_losses_after_a_hundred_steps_are_the_cpus(solver, renew):
    given = order(solver, renew=renew)
    ours, theirs = (trained(given, device)[0] for device in (GPU, CPU))
    assert torch.allclose(ours, theirs, rtol=1e-4)


@pytest.mark.parametrize("form", ["unrolled", "looped"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_both_forms_in_both_precisions_are_the_cpus(form, dtype):
    given, found = order(LEARNED[0], dtype=dtype), []
    for device in (GPU, CPU):
        step, job, state, key = training(given, device)
        found.append(program(step, job, state, key, 100, form)(0, 100)["loss"].cpu())
    assert torch.allclose(*found, rtol=1e-4)


def test_a_member_that_diverges_leaves_its_neighbours_bits_alone():
    given, found = order(LEARNED[0]), []
    for poisoned in (False, True):
        step, job, state, key = training(given, GPU)
        if poisoned:
            state["p.A"][0, 1] = torch.nan
        OnDevice(step, job, state, key)(0, 20)
        found.append({name: x.cpu() for name, x in state.items()})
    assert not found[1]["alive"][0, 1]
    for name in found[0]:
        assert torch.equal(found[0][name][:, [0, 2]], found[1][name][:, [0, 2]]), name


def test_bits_depend_neither_on_the_width_nor_on_launches_nor_on_the_day():
    few, many = order(LEARNED[0]), order(LEARNED[0], jobs=700)
    losses, state = trained(few, GPU)
    for other in (trained(few, GPU), trained(many, GPU)):
        assert torch.equal(losses, other[0][:, :, :3])
        assert all(torch.equal(x, other[1][name][:, :3]) for name, x in state.items())
    step, job, again, key = training(few, GPU)
    run = OnDevice(step, job, again, key)
    assert torch.equal(losses, torch.cat([run(0, 33)["loss"], run(33, 67)["loss"]]).cpu())


@pytest.mark.parametrize(
    "solver",
    [ConjugateGradient(depth=4), Newton(depth=3), BestKrylov(depth=3, preconditioner="identity"), LEARNED[0]],
    ids=lambda s: type(s).__name__,
)
def test_tests_in_double_precision_are_the_cpus(solver):
    """Trained on either, tested there: by kernels, and eagerly."""
    given, found = order(solver), []
    for device, engine in ((GPU, "unrolled"), (GPU, "auto"), (CPU, "auto")):
        _, tests = train.run(replace(given, engine=engine), device)
        found.append(next(iter(tests))[1].cpu())
    for ours in found[:2]:
        mean, expected = ((x.mean(-1) + 1e-24).log() for x in (ours, found[2]))  # what is smaller is rounding
        assert torch.allclose(mean, expected, atol=1e-3)


def test_a_closed_form_is_the_cpus():
    given = order(BestLfom(depth=3, preconditioner="covariance"))
    ours, theirs = (fit(given, device, 20_000).params for device in (GPU, CPU))
    for name, x in theirs.items():
        assert torch.allclose(ours[name].cpu(), x, rtol=1e-4, atol=1e-6), name


def test_a_packs_rows_are_the_cpus():
    """Tuning, successive halving, plateau, diagnostics and all."""
    given = order(LEARNED[0], jobs=4, halving=2, learning_rates=(0.001, 0.003, 0.01, 0.03))
    ours, theirs = (execute(given, device).tables["results"].to_pylist() for device in (GPU, CPU))
    for a, b in zip(ours, theirs, strict=True):
        assert (a["job"], a["step"], a["status"]) == (b["job"], b["step"], b["status"])
        assert a["log_mse"] == pytest.approx(b["log_mse"], abs=1e-3)


def test_too_little_memory_is_a_fault_of_kind_memory():
    given = order(LEARNED[0], jobs=64, batch=100_000)
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1e-3)
    try:
        *_, last = run_pack(replace(given, engine="looped"), on=GPU)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert isinstance(last, Fault)
    assert last.kind == "memory", last.reason


def test_several_packs_at_once_give_what_each_gives_alone():
    orders = [order(solver, jobs=2, steps=40) for solver in LEARNED]
    gpus, found = OnGpus([GPU]), dict[int, Outcome]()
    ahead = list(enumerate(orders))
    while len(found) < len(orders):
        while ahead and gpus.idle()["gpu"]:
            gpus.start(*ahead.pop(0), "gpu")
        for key, event in gpus.poll(5):
            assert isinstance(event, Outcome), event
            found[key] = event
    for key, given in enumerate(orders):
        assert found[key].tables["results"].equals(execute(given, GPU).tables["results"])


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_what_has_no_rule_goes_through_torch_compile(caplog):
    def update(job, state, batch, t):
        return {}, {"value": torch.linalg.det(torch.einsum("jip,jkp->jpik", batch, batch)).sum(-1).unsqueeze(0)}

    step = Step(lambda job, random, n: random.normal(4, n), update, 640, 1, torch.float32)
    run = program(step, {}, {}, keys([("x",)], GPU), calls=100_000)
    assert run.name in ("torch.compile", "eager")
    assert run(0, 2)["value"].shape == (2, 1, 1)
    assert "not as a kernel" in caplog.text or "runs eagerly, not compiled" in caplog.text


def test_the_parts_of_a_step_are_timed_until_they_have_run():
    """Launches alone take the same time whatever they start, and Adam would have a quarter of it."""
    *_, optimiser = parts(order(LEARNED[0], jobs=1000, batch=1000, steps=5000), GPU)
    assert optimiser < 0.1
