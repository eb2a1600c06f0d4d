"""What tests of programs run: small packs, by machine code and eagerly."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from lfombench.harness import PROTOCOLS, Job
from lfombench.harness.compiler.select import Engine, program
from lfombench.harness.compiler.step import Tensors
from lfombench.harness.training.pack import WorkOrder
from lfombench.harness.training.training_step import training
from lfombench.solvers import Solver
from lfombench.tasks import LinearRegression, Task
from tests.builders import order

CPU = torch.device("cpu")
TASK = LinearRegression(d=3, n=6, spectrum=(1.0, 0.5, 2.0), noise=0.1)


def pack(solver: Solver, jobs: int = 2, task: Task = TASK, **protocol: Any) -> WorkOrder:
    """Jobs of a few small batches. protocol: what is otherwise than in a short rigorous one."""
    options = {"steps": 12, "batch": 20, "test_prompts": 70, "validation_prompts": 33, "learning_rates": (0.01, 0.1)}
    chosen = replace(PROTOCOLS["rigorous"], **(options | protocol))
    return order(tuple(Job.of(task=task, solver=solver, protocol=chosen, seed=seed) for seed in range(jobs)))


def both(given: WorkOrder, first: int, count: int, form: Engine = "unrolled") -> list[tuple[Tensors, Tensors]]:
    """Records and state after some steps, by machine code and eagerly."""
    found, engines = [], list[Engine]([form, "eager"])
    for engine in engines:
        step, job, state, key = training(given, CPU)
        found.append((program(step, job, state, key, count, engine)(first, count), state))
    return found
