"""A training step of one job on one core: packs against the notebook structure and against a vmap ensemble.

Figure 1's largest model: 4 layers, full preconditioners, d = 5, n = 20, 1000 prompts, Adam. Losses are compared first.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from naive import NaiveGdPlusPlus, NaiveLfom, NaiveMemformer, ensemble, train
from timing import Row, interleaved

from lfombench.harness import PROTOCOLS, Job
from lfombench.harness.compiler.select import program
from lfombench.harness.compiler.streams import Streams
from lfombench.harness.training.pack import Pack, WorkOrder, drawing
from lfombench.harness.training.training_step import initial, training
from lfombench.solvers import GdPlusPlus, Memformer
from lfombench.tasks import LinearRegression

CPU = torch.device("cpu")
DEPTH = 4
TASK = LinearRegression(d=5, n=20, spectrum=(1.0, 1.0, 0.5, 0.25, 1.0))
MEMFORMER = Memformer(depth=DEPTH, memory="cgd", preconditioner="full")
GD = GdPlusPlus(depth=DEPTH)
GD_TOKENS = GdPlusPlus(depth=DEPTH, tokens=True)
LFOM = Memformer(depth=DEPTH, memory="lfom", preconditioner="full", gate="token")


def pack(solver, jobs: int, *, fresh: bool = False) -> WorkOrder:
    if fresh:
        protocol = replace(PROTOCOLS["rigorous"], batch=1000, learning_rates=(0.01,))
    else:
        protocol = replace(PROTOCOLS["published"], draw="examples", query="sampled")
    jobs_of = tuple(Job.of(task=TASK, solver=solver, protocol=protocol, seed=seed) for seed in range(jobs))
    return WorkOrder(Pack(jobs_of))


def naive(given: WorkOrder, job: int = 0):
    """A job's model as the notebook writes it, from the same start, on the same prompts."""
    one = given.for_jobs(given.jobs[job : job + 1])
    source = drawing(one.pack, [TASK], "train", torch.float32, CPU)
    random = Streams(source.key, torch.float32)
    examples = TASK.examples(random, source.job["frame"], given.first.protocol.batch)
    start = initial(one, CPU)
    model: Any
    if isinstance(given.first.solver, GdPlusPlus):
        model = NaiveGdPlusPlus(DEPTH, TASK.d)
    else:
        model = NaiveLfom(DEPTH, TASK.d, TASK.n) if given.first.solver == LFOM else NaiveMemformer(DEPTH, TASK.d)
    with torch.no_grad():
        for name, p in start.items():
            if name == "Gamma":
                model.Gamma[:, :, TASK.d].copy_(p[0, 0])
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


def against(name: str, goal: float, solver, jobs: int, rounds: int, *, fresh: bool = False) -> Row:
    """Milliseconds a step and job, the notebook's over ours."""
    difference = check(solver)
    assert difference < 2e-3, f"the two do not train the same model: {difference}"
    given = pack(solver, jobs, fresh=fresh)
    ours = advance(given)
    ours(0, 1)
    model, Z, target, root = naive(given)
    steps = 200 if solver == MEMFORMER else 20
    return interleaved(
        name,
        goal,
        ours=(lambda: ours(1, steps), steps * jobs),
        theirs=(lambda: train(model, Z, target, 20, 0.01, root if fresh else None), 20),
        rounds=rounds,
        note=f"{jobs} jobs in the pack; losses agree to {difference:.0e}",
    )


def against_vmap(jobs: int, rounds: int) -> Row:
    """The same against a hand-written ensemble of the token model, of as many jobs."""
    given = pack(MEMFORMER, jobs)
    ours = advance(given)
    first = ours(0, 3)["loss"][:, 0]
    made = [naive(given, j) for j in range(jobs)]
    models, Z, target = [m[0] for m in made], torch.stack([m[1] for m in made]), torch.stack([m[2] for m in made])
    theirs = torch.stack(ensemble(models, Z, target, 3, 0.01))
    difference = ((first - theirs).abs() / theirs).max().item()
    assert difference < 2e-3, f"the two do not train the same models: {difference}"
    return interleaved(
        "against a vmap ensemble of the token model",
        10,
        ours=(lambda: ours(3, 200), 200 * jobs),
        theirs=(lambda: ensemble(models, Z, target, 3, 0.01), 3 * jobs),
        rounds=rounds,
        note=f"{jobs} jobs in either; losses agree to {difference:.0e}",
    )


def rows(rounds: int) -> list[Row]:
    torch.set_num_threads(1)
    return [
        against("step, fixed batch", 1000, MEMFORMER, 16, rounds),
        against("step, fresh prompts", 400, MEMFORMER, 16, rounds, fresh=True),
        against("step, LFOM memory, a gate per token", 300, LFOM, 16, rounds),
        against("step, P free (GD++), on the Gram matrix", 20, GD, 16, rounds),
        against("step, P free (GD++), on tokens", 20, GD_TOKENS, 16, rounds),
        against_vmap(16, rounds),
    ]
