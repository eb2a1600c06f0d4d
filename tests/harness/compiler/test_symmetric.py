"""Products with symmetric matrices, of which half is kept and read: from eight rows on, in looped steps."""

from __future__ import annotations

import pytest
import torch

from lfombench.harness.compiler.on_device import OnDevice
from lfombench.harness.compiler.select import program
from lfombench.harness.compiler.step import Step
from lfombench.harness.compiler.streams import keys
from lfombench.harness.spec.labels import label
from lfombench.harness.training import evaluate
from lfombench.harness.training.training_step import training
from lfombench.solvers import GdPlusPlus, Lfom, Memformer
from lfombench.tasks import LinearRegression
from tests.battery import CASES
from tests.device.emulated import Emulated
from tests.programs import CPU, pack

D, PROMPTS = 9, 37
LEARNED = [
    Memformer(depth=2, memory="cgd", preconditioner="full"),
    Memformer(depth=2, memory="lfom", preconditioner="diagonal", gate="diagonal"),
    GdPlusPlus(depth=2),
    Lfom(depth=2, coefficients="full"),
]
VECTORS = {  # what stands beside the matrix: (batch, job, state) -> ... d prompts, or ... d 1
    "of each prompt": lambda batch, job, state: batch.tanh(),
    "of each member and prompt": lambda batch, job, state: state["p"][..., None] * batch,
    "of all prompts": lambda batch, job, state: torch.eye(D, dtype=batch.dtype)[:, 2:3],
    "of each job": lambda batch, job, state: job["q"][:, :, None],
    "of each member": lambda batch, job, state: state["p"][..., None],
}


@pytest.mark.parametrize("vector", VECTORS.values(), ids=VECTORS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_a_vector_may_be_each_prompts_or_one_for_all(vector, dtype):
    def update(job, state, batch, t):
        G = (batch.unsqueeze(1) * batch.unsqueeze(2)) / D

        def total(p):
            v = vector(batch, job, {"p": p})
            product = (G * v.unsqueeze(-3)).sum(-2)
            value = product.square().sum(-2) + 0 * p.sum(-1, keepdim=True) + 0 * batch.sum(-2)
            return value.sum(), value

        gradient, value = torch.func.grad(total, has_aux=True)(state["p"])
        return {"p": state["p"] - 0.01 * gradient}, {"loss": value.sum(-1)}

    found = []
    for engine in ("eager", "looped", "kernel"):
        step = Step(lambda job, random, n: random.normal(D, n), update, PROMPTS, 1, dtype)
        job = {"q": torch.linspace(-1, 1, 2 * D, dtype=dtype).view(2, D)}
        state = {"p": torch.linspace(0.5, 1.5, 2 * D, dtype=dtype).view(1, 2, D).clone()}
        given = (step, job, state, keys([("x", i) for i in range(2)], CPU))
        run = OnDevice(*given, "looped", Emulated()) if engine == "kernel" else program(*given, 2, engine)
        found.append((run(0, 2)["loss"], state["p"]))
    for ours in found[1:]:
        for x, y in zip(ours, found[0], strict=True):
            assert torch.allclose(x, y, rtol=1e-4, atol=1e-4 * float(y.abs().mean()))


SIZED = LinearRegression(d=D, n=2 * D, noise=0.1)
SOLVERS = [s for s in CASES if not s.trains and not s.fits and s.needs != {"experts"}]


@pytest.mark.parametrize("solver", SOLVERS, ids=label)
def test_every_solver_in_more_dimensions_is_what_is_written(solver):
    """The battery is of four dimensions, where no matrix is halved."""
    given = pack(solver, task=SIZED)
    step, job, key = evaluate.testing(given, {}, [SIZED] * 2, "test", 70, CPU)
    ours, theirs = (program(step, job, {}, key, 1, engine)(0, 1)["error"][..., :70] for engine in ("looped", "eager"))
    finite = theirs.isfinite()
    assert torch.equal(ours.isfinite(), finite)
    apart = (ours - theirs).abs()[finite] / (theirs.abs()[finite] + theirs.abs()[finite].mean())
    assert apart.max() < 1e-3


@pytest.mark.parametrize("solver", LEARNED, ids=label)
def test_learned_ones_train_there_as_is_written(solver):
    """Half a matrix is read in their gradients too."""
    found = []
    for engine in ("looped", "eager"):
        step, job, state, key = training(pack(solver, task=SIZED), CPU)
        found.append(program(step, job, state, key, 3, engine)(0, 3)["loss"])
    assert torch.allclose(*found, rtol=1e-4)
