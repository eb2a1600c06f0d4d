"""What tests of training run: short protocols on the task of the first figure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import torch

from lfombench.harness import PROTOCOLS, Job
from lfombench.harness.compiler.streams import Streams
from lfombench.harness.spec.protocol import Protocol
from lfombench.harness.training.pack import drawing
from lfombench.solvers import Solver
from lfombench.tasks import LinearRegression, Prompts, Task
from tests.builders import order

CPU = torch.device("cpu")
TASK = LinearRegression(d=5, n=20, spectrum=(1.0, 1.0, 0.5, 0.25, 1.0))


def prompts_of(
    tasks: Sequence[Task], jobs: Sequence[Job], role: str, dtype: torch.dtype = torch.float64
) -> Callable[..., Prompts]:
    """Prompts of a role as the engine draws them: a function of their number and the step."""
    source = drawing(order(jobs).pack, tasks, role, dtype, CPU)
    return lambda count, step=0: source.draw(source.job, Streams(source.key, dtype, step), count)


QUICK = replace(
    PROTOCOLS["rigorous"], steps=40, batch=64, validation_prompts=128, test_prompts=512, learning_rates=(0.03,)
)
PUBLISHED = replace(PROTOCOLS["published"], steps=30, batch=100, test_prompts=512)


def jobs(
    solver: Solver, protocol: Protocol = QUICK, seeds: Iterable[int] = range(3), task: Task = TASK
) -> tuple[Job, ...]:
    """Jobs of some seeds."""
    return tuple(Job.of(task=task, solver=solver, protocol=protocol, seed=seed) for seed in seeds)
