"""Steps of every solver, small: what tests of kernels run or compile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from lfombench.harness.compiler.step import Step, Tensors
from lfombench.harness.compiler.streams import Streams, keys
from lfombench.harness.training import evaluate
from lfombench.harness.training.closed_form import fit
from lfombench.harness.training.pack import Weights, WorkOrder
from lfombench.harness.training.training_step import initial, training
from lfombench.solvers import Solver
from lfombench.tasks import LinearRegression
from tests.battery import CASES, TOKENS
from tests.programs import CPU, pack

PROMPTS = 75  # which fill no warp and no block
TASK = LinearRegression(d=4, n=9, spectrum=(1.0, 0.5, 2.0, 1.0), noise=0.1)
Given = tuple[Step, Tensors, Tensors, torch.Tensor]  # a step, and a pack's job, state and keys


def packed(solver: Any, **protocol: Any) -> WorkOrder:
    """Two jobs in two trials; the experts of mixtures have random parameters."""
    given = pack(solver, task=TASK, **{"batch": PROMPTS} | protocol)
    models = [expert.solver for expert in getattr(solver, "experts", ())]
    random = Streams(keys([("expert",)], CPU), torch.float32)
    weights = [
        Weights(dict(model.init(TASK.d, TASK.n, lambda *shape: 0.1 * random.normal(*shape)[0])), {}) for model in models
    ]
    return replace(given, experts=tuple(tuple(weights) for _ in given.jobs) if models else ())


def trained(solver: Solver, **protocol: Any) -> Callable[[], Given]:
    """A training step."""
    given = packed(solver, **protocol)
    return lambda: training(given, CPU)


def step_of_test(solver: Solver, prompts: int = PROMPTS) -> Callable[[], Given]:
    """A test step, with parameters as training starts from them or as they are fitted."""
    given = packed(solver)
    params = {name: p[0] for name, p in initial(given, CPU).items()}
    params |= fit(given, CPU, 512).params if solver.fits else {}
    step, job, key = evaluate.testing(given, params, [job.task for job in given.jobs], "test", prompts, CPU)
    return lambda: (step, job, {}, key)


LEARNED = [s for s in (*CASES, *TOKENS[::2]) if s.trains]
TESTED = [s for s in CASES if not s.trains] + LEARNED[::6]  # of others training computes the same and more
