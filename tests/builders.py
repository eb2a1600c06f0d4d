"""What several tests build: a small sweep, and packs as workers are sent them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lfombench.harness import PROTOCOLS, Job, Sweep, load
from lfombench.harness.scheduler.packing import PlannedPack
from lfombench.harness.training.checkpoint import Checkpoint
from lfombench.harness.training.pack import Pack, WorkOrder
from lfombench.solvers import LinearTransformer
from lfombench.tasks import LinearRegression, Task

SMALL = """\
name: small
protocol:
  - {use: published, steps: 20, batch: 50, test_prompts: 256}
  - {use: rigorous, steps: 20, batch: 32, learning_rates: [0.01, 0.1], validation_prompts: 64, test_prompts: 256}
seeds: 2
tasks:
  - linear_regression: {d: 3, n: 8}
solvers:
  - conjugate_gradient: {depth: 2}
  - linear_transformer: {preconditioner: {each: [scalar, full]}, depth: 2}
  - memformer: {memory: cgd, preconditioner: full, depth: {each: [1, 2]}}
"""


def order(jobs: Sequence[Job], tests: Sequence[Task] = (), **how: Any) -> WorkOrder:
    """A pack of jobs as a worker is sent it."""
    return WorkOrder(Pack(tuple(jobs), tuple(tests)), **how)


def two_packs(jobs: int, **options: Any) -> list[Pack]:
    """Two packs of so many jobs, of different structures."""
    quick = {"steps": 2, "batch": 4, "learning_rates": (0.1,), "test_prompts": 64}
    protocol, task = replace(PROTOCOLS["rigorous"], **(quick | options)), LinearRegression(d=2, n=3)
    solvers = [LinearTransformer(depth=depth, preconditioner="full") for depth in (1, 2)]
    return [
        Pack(tuple(Job.of(task=task, solver=solver, protocol=protocol, seed=seed) for seed in range(jobs)))
        for solver in solvers
    ]


class NoRecord:
    """Sends packs as they are, and keeps nothing of them."""

    def order(self, planned: PlannedPack) -> WorkOrder:
        """The pack, with nothing that it could go on from."""
        return WorkOrder(planned.pack, expected=planned.cost)

    def keep(self, pack: Pack, checkpoint: Checkpoint) -> None:
        """Keep no checkpoint."""

    def ran_out_of_memory(self, pack: Pack) -> None:
        """Remember nothing."""


def parsed(folder: Path, text: str) -> Sweep:
    """The sweep of a text in YAML."""
    path = folder / "sweep.yaml"
    path.write_text(text)
    return load(str(path))
