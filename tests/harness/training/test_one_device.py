"""Everything a pack touches stays on one device. PyTorch's meta device, which refuses to mix, stands in for a GPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lfombench.harness.compiler.streams import Streams, keys
from lfombench.harness.training.pack import stack
from lfombench.solvers import BestLfom, ConjugateGradient, GradientDescent, LinearTransformer, Memformer
from lfombench.tasks import LinearRegression

META = torch.device("meta")
SOLVERS: list[Any] = [
    ConjugateGradient(depth=2),
    GradientDescent(depth=2, step=0.1),
    LinearTransformer(depth=2, preconditioner="full"),
    Memformer(depth=2, memory="cgd", preconditioner="diagonal"),
    BestLfom(depth=2, preconditioner="covariance"),
]


@pytest.mark.parametrize("rotation", ["none", "per_seed", "per_prompt"])
@pytest.mark.parametrize("through", ["examples", "statistics"])
def test_nothing_is_made_elsewhere(rotation, through):
    task = LinearRegression(d=3, n=5, spectrum=(1.0, 2.0, 3.0), rotation=rotation, noise=0.1)
    packed = stack([task, task], torch.float32, META)
    frame = packed.frame(Streams(keys([("a",), ("b",)], META), torch.float64))
    frame = None if frame is None else frame.float()
    random = Streams(keys([("a",), ("b",)], META), torch.float32)
    if through == "statistics":
        prompts = packed.prompts(random, frame, 7)
    else:
        prompts = packed.examples(random, frame, 7).prompts(sampled_query=True)
    for solver in SOLVERS:
        params = solver.init(3, 5, random.normal)
        if solver.family == "bound":
            params = solver.fit(solver.moments({}, prompts.problem, prompts.residual))
        for w in stack([solver, solver], torch.float32, META).iterates(params, prompts.problem):
            assert prompts.squared_error(w).device == META
