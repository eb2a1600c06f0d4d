"""torch.compile, which is the path of a GPU."""

from __future__ import annotations

import pytest
import torch

from lfombench.harness.compiler.inductor import Inductor
from lfombench.harness.compiler.step import Eager
from lfombench.harness.training.training_step import training
from lfombench.solvers import (
    Memformer,
)
from lfombench.tasks import LinearRegression
from tests.programs import CPU, pack


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # torch's own
@pytest.mark.parametrize("renew", [2, None])  # each takes half a minute
def test_torch_compile_trains_as_eager_does(renew):
    """The path of a GPU, here on the CPU, without its graphs: several calls, of the same program."""
    task = LinearRegression(d=3, n=12)  # enough degrees of freedom for the quantile
    given = pack(Memformer(depth=1, memory="cgd", preconditioner="full"), task=task, batch=16, renew=renew)
    found = []
    for runner in (Inductor, Eager):
        step, job, state, key = training(given, CPU)
        run = runner(step, job, state, key)
        records = [run(0, 3), run(3, 4)]
        found.append((torch.cat([r["loss"] for r in records]), state["p.A"]))
    for ours, theirs in zip(*found, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no CUDA device")
@pytest.mark.parametrize("renew", [1, 3, None])
def test_a_gpu_trains_as_the_cpu_does(renew):
    """Captured in CUDA graphs, over more than one block of steps, and with a rest."""
    given = pack(Memformer(depth=2, memory="cgd", preconditioner="full"), steps=60, renew=renew)
    found = []
    for runner, device in ((Inductor, torch.device("cuda")), (Eager, CPU)):
        step, job, state, key = training(given, device)
        run = runner(step, job, state, key)
        records = [run(0, 45), run(45, 15)]
        found.append((torch.cat([r["loss"] for r in records]).cpu(), state["p.A"].cpu()))
    for ours, theirs in zip(*found, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-5)
