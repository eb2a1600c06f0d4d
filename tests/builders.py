"""What several tests build: a small sweep, and packs as workers are sent them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import torch

from lfombench.analysis.results import table
from lfombench.harness import PROTOCOLS, Job, Sweep, load
from lfombench.harness.scheduler.packing import PlannedPack
from lfombench.harness.store.outcome import Outcome
from lfombench.harness.store.store import Store
from lfombench.harness.training.checkpoint import Checkpoint
from lfombench.harness.training.execute import execute
from lfombench.harness.training.pack import Pack, WorkOrder
from lfombench.solvers import ConjugateGradient, LinearTransformer, Memformer, Solver
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

CLOSED = """\
name: quick
protocol: {use: published, test_prompts: 64}
seeds: 10
tasks: [linear_regression: {d: 3, n: 8}]
solvers: [conjugate_gradient: {depth: {each: [1, 2]}}]
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

    def ran_out_of_memory(self, pack: Pack, device: str) -> None:
        """Remember nothing."""


def parsed(folder: Path, text: str) -> Sweep:
    """The sweep of a text in YAML."""
    path = folder / "sweep.yaml"
    path.write_text(text)
    return load(str(path))


GOOD = """\
name: good
protocol: {use: rigorous, steps: 50}
seeds: 2
tasks:
  - linear_regression: {d: 2, n: 3, spectrum: [1, 0.5]}
solvers:
  - conjugate_gradient: {depth: 4}
  - memformer: {memory: cgd, preconditioner: {each: [scalar, full]}, depth: {each: [1, 2]}}
"""

# Of its two solvers the first knows one number of examples, and the test has another.
TOKENS = """\
name: tokens
protocol: rigorous
tasks: [figure_1]
tests: [figure_1: {n: 40}]
solvers:
  - memformer: {memory: lfom, preconditioner: full, gate: token, depth: 2}
  - linear_transformer: {preconditioner: full, depth: 2}
"""

SWEEP = Sweep(
    name="good",
    tasks=[LinearRegression(d=2, n=3, spectrum=(1, 0.5))],
    solvers=[
        ConjugateGradient(depth=4),
        *(Memformer(memory="cgd", preconditioner=p, depth=depth) for p in ("scalar", "full") for depth in (1, 2)),
    ],
    protocols=[replace(PROTOCOLS["rigorous"], steps=50)],
    seeds=range(2),
)

QUICK = replace(PROTOCOLS["rigorous"], steps=2, batch=4, learning_rates=(0.1,), test_prompts=64)
TASK = LinearRegression(d=2, n=3)


def pack(seeds: Iterable[int] = range(3), solver: Solver | None = None) -> Pack:
    """Jobs that are done in milliseconds; learned ones unless a solver is given."""
    solver = solver or LinearTransformer(depth=1, preconditioner="full")
    return Pack(tuple(Job.of(task=TASK, solver=solver, protocol=QUICK, seed=seed) for seed in seeds))


def run(given: Pack) -> Outcome:
    """What comes of a pack, in this process."""
    return execute(WorkOrder(given), torch.device("cpu"))


def ids(given: Pack) -> set[str]:
    """The ids of a pack's jobs."""
    return {job.id for job in given.jobs}


def rows(store: Store, name: str = "results") -> pl.DataFrame:
    """All rows of a table, in an order of their own."""
    return (
        table(store.out, name)
        .collect()
        .sort(pl.all().exclude(pl.List(pl.Float64), pl.List(pl.Int32), pl.List(pl.String)))
    )
