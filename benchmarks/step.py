"""A training step of one job on one core, 4 layers, 1000 prompts, Adam: models other than the Memformer of engines.py
against the notebook structure. Losses are compared first.
"""

from __future__ import annotations

from typing import Any

import torch
from naive import NaiveGdPlusPlus, NaiveLfom, NaiveMemformer, train
from timing import Row, interleaved

from lfombench.harness import PROTOCOLS, Job
from lfombench.harness.compiler.select import program
from lfombench.harness.compiler.streams import Streams
from lfombench.harness.training.pack import Pack, WorkOrder, drawing
from lfombench.harness.training.training_step import initial, training
from lfombench.solvers import GdPlusPlus, Memformer
from lfombench.tasks import Examples, LinearRegression

CPU = torch.device("cpu")
DEPTH = 4
TASK = LinearRegression(d=5, n=20, spectrum=(1.0, 1.0, 0.5, 0.25, 1.0))
MEMFORMER = Memformer(depth=DEPTH, memory="cgd", preconditioner="full")
GD = GdPlusPlus(depth=DEPTH)
GD_TOKENS = GdPlusPlus(depth=DEPTH, tokens=True)
LFOM = Memformer(depth=DEPTH, memory="lfom", preconditioner="full", gate="token")


def pack(solver, jobs: int) -> WorkOrder:
    protocol = PROTOCOLS["published"]
    jobs_of = tuple(Job.of(task=TASK, solver=solver, protocol=protocol, seed=seed) for seed in range(jobs))
    return WorkOrder(Pack(jobs_of))


def examples_of(given: WorkOrder) -> Examples:
    """The prompts of the first training step of every job, with all their examples."""
    task = given.first.task
    source = drawing(given.pack, [task] * len(given.jobs), "train", torch.float32, CPU)
    return task.examples(Streams(source.key, torch.float32), source.job["frame"], given.first.protocol.batch)


def naive(given: WorkOrder, job: int = 0):
    """A job's model as the notebook writes it, from the same start, on the same prompts."""
    one = given.for_jobs(given.jobs[job : job + 1])
    examples, start = examples_of(one), initial(one, CPU)
    d, n = given.first.task.d, given.first.task.n
    model: Any
    if isinstance(given.first.solver, GdPlusPlus):
        model = NaiveGdPlusPlus(DEPTH, d)
    else:
        model = NaiveLfom(DEPTH, d, n) if given.first.solver == LFOM else NaiveMemformer(DEPTH, d)
    with torch.no_grad():
        for name, p in start.items():
            if name == "Gamma":
                model.Gamma[:, :, d].copy_(p[0, 0])
            elif name == "gamma":
                model.gamma[1:].copy_(p[0, 0])
            else:
                getattr(model, name).copy_(p[0, 0])
    assert examples.w_star is not None
    Z = examples.tokens()[0].permute(2, 1, 0).contiguous()
    return model, Z, (examples.query * examples.w_star).sum(1)[0], examples.law.root[0, :, :, 0]


def advance(given: WorkOrder):
    step, job, state, key = training(given, CPU)
    return program(step, job, state, key, 10**6)


def check(solver) -> float:
    """Largest relative difference of the two training losses over 20 steps: they are the same program."""
    given = pack(solver, 1)
    ours = advance(given)(0, 20)["loss"].flatten().tolist()
    model, Z, target, _ = naive(given)
    theirs = train(model, Z, target, steps=20, rate=0.01)
    return max(abs(a - b) / b for a, b in zip(ours, theirs, strict=True))


def against(name: str, goal: float, solver, rounds: int, jobs: int = 16) -> Row:
    """Milliseconds a step and job, the notebook's over ours."""
    difference = check(solver)
    assert difference < 2e-3, f"the two do not train the same model: {difference}"
    ours = advance(pack(solver, jobs))
    ours(0, 1)
    model, Z, target, _ = naive(pack(solver, jobs))
    return interleaved(
        name,
        goal,
        ours=(lambda: ours(1, 20), 20 * jobs),
        theirs=(lambda: train(model, Z, target, 20, 0.01), 20),
        rounds=rounds,
        note=f"{jobs} jobs in the pack; losses agree to {difference:.0e}",
    )


def rows(rounds: int) -> list[Row]:
    torch.set_num_threads(1)
    return [
        against("step, LFOM memory, a gate per token", 300, LFOM, rounds),
        against("step, P free (GD++), on the Gram matrix", 20, GD, rounds),
        against("step, P free (GD++), on tokens", 20, GD_TOKENS, rounds),
    ]
