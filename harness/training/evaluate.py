"""The errors of a solver's iterates on test and validation prompts, and its contract.

Axes: `trials` are what a protocol tunes over, `jobs` the jobs of the pack, `prompts` come last.
"""

from __future__ import annotations

import functools
import json
from collections import deque
from collections.abc import Iterator, Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from lfombench.solvers import Method, Oracle, Solver, TokenModel
from lfombench.tasks import Prompts, Task

from ..compiler.select import program
from ..compiler.step import Step, Tensors, grouped, in_group
from ..compiler.streams import Streams
from ..spans import span
from ..spec.job import Job
from ..spec.labels import shape_of
from .pack import Drawing, WorkOrder, drawing, floats, with_floats

CHUNK = 2048  # prompts that are tested at a time


def errors(solver: Solver, params: Tensors, batch: Prompts) -> Iterator[Tensor]:
    """Squared error of every prompt after 0 .. depth steps."""
    if solver.on_tokens:
        assert batch.tokens is not None
        target = batch.target()
        for y in cast(TokenModel, solver).predictions(params, batch.tokens):
            yield (y - target).square()
    else:
        for w in iterates(solver, params, batch):
            yield batch.squared_error(w)


def iterates(solver: Solver, params: Tensors, batch: Prompts) -> Iterator[Tensor]:
    """w_0 .. w_depth of a method, or of an oracle that is told w*."""
    if isinstance(solver, Oracle):
        return solver.answers(batch.problem, batch.problem.law.root, batch.w_star)
    return cast(Method, solver).iterates(params, batch.problem)


def last(values: Iterator[Tensor]) -> Tensor:
    """The last of several tensors, with no more than one of them in memory."""
    return deque(values, maxlen=1)[0]


def test(
    order: WorkOrder, params: Tensors, task: Task | None, device: torch.device
) -> Float[Tensor, "jobs steps prompts"]:
    """Squared error of every iterate on test prompts: those of each job's own task, or of `task`."""
    protocol = order.first.protocol
    if task is None and protocol.test_on == "training":
        return measure(order, params, [job.task for job in order.jobs], "train", protocol.batch, device)
    tasks = [job.task if task is None else task for job in order.jobs]
    return measure(order, params, tasks, "test", protocol.test_prompts, device)


@torch.no_grad()
def validate(
    order: WorkOrder, trials: Sequence[Sequence[int]], params: Tensors, device: torch.device
) -> Float[Tensor, "trials jobs"]:
    """Mean error of the last iterate of every member on the validation prompts. Parameters are `trials jobs ...`.

    trials: which trials of each job, trials jobs.
    """
    members = order.for_jobs([job.tried(k) for row in trials for job, k in zip(order.jobs, row, strict=True)])
    tasks = [job.task for job in members.jobs]
    flat = {name: p.flatten(0, 1) for name, p in params.items()}
    error = measure(members, flat, tasks, "validation", order.first.protocol.validation_prompts, device)
    return error[:, -1].mean(-1).view(len(trials), len(order.jobs))


@torch.no_grad()
def measure(
    order: WorkOrder, params: Tensors, tasks: Sequence[Task], role: str, total: int, device: torch.device
) -> Float[Tensor, "jobs steps prompts"]:
    """Squared error of every iterate on so many prompts of a role, in float64. Parameters are `jobs ...`."""
    count = min(CHUNK, total)
    step, job, key = testing(order, params, tasks, role, count, device)
    run = program(step, job, {}, key, calls(order.first), order.engine)
    with span(role):
        chunks = [run(0, 1, begin)["error"][0, 0, ..., :count] for begin in range(0, total, count)]
    return torch.cat(chunks, -1)[..., :total]


def testing(
    order: WorkOrder, params: Tensors, tasks: Sequence[Task], role: str, count: int, device: torch.device
) -> tuple[Step, Tensors, Tensor]:
    """The test step of a pack, so many prompts at a time; what it needs of each job, `jobs ...`; the streams' keys."""
    pack, dtype = order.pack, torch.float64
    protocol, solver = pack.first.protocol, pack.first.solver
    source = drawing(pack, tasks, role, dtype, device)
    withheld = protocol.withheld if solver.family == "classical" else 0
    job = source.job | grouped("solver", floats([job.solver for job in pack.jobs], dtype, device))
    job |= grouped("p", {name: p.to(dtype).contiguous() for name, p in params.items()})

    def update(job: Tensors, state: Tensors, batch: Prompts, t: Tensor) -> tuple[Tensors, Tensors]:
        squared = list(errors(with_floats(solver, in_group("solver", job)), in_group("p", job), batch))
        return {}, {"error": torch.stack(squared, 1).unsqueeze(0)}

    check_contract(with_floats(solver, in_group("solver", job)), in_group("p", job), source)
    structure = json.dumps(shape_of(tasks[0]))
    name = "test", pack.program, type(tasks[0]), structure
    identity = pack.identity("test", structure, test=tasks[0])
    draw = functools.partial(source.draw, withheld=withheld)
    return Step(draw, update, count, None, dtype, name, identity), job, source.key


def calls(job: Job) -> int:
    """How many chunks of prompts a job is tested and validated on, in all its trials; the program is the same."""
    protocol, trials = job.protocol, len(job.trials)
    rounds = trials * len(protocol.rounds) if job.solver.trains else trials
    return -(-protocol.test_prompts // CHUNK) + (rounds * -(-protocol.validation_prompts // CHUNK) if rounds > 1 else 0)


@torch.no_grad()
def check_contract(solver: Solver, params: Tensors, source: Drawing) -> None:
    """ValueError where a solver breaks its contract: depth + 1 iterates shaped like w*, or as many predictions."""
    dtype = next(iter([*params.values(), torch.empty(0)])).dtype
    batch = source.draw(source.job, Streams(source.key, dtype), 2)
    if solver.on_tokens:
        assert batch.tokens is not None
        tensors = list(cast(TokenModel, solver).predictions(params, batch.tokens))
        function, symbol, axes, shape = "predictions", "y", "(jobs, prompts)", batch.target().shape
    else:
        tensors = list(iterates(solver, params, batch))
        function, symbol, axes, shape = "iterates", "w", "(jobs, d, prompts)", batch.w_star.shape
    if len(tensors) != solver.depth + 1:
        raise ValueError(
            f"{type(solver).__name__}.{function} gave {len(tensors)} tensors, needs depth + 1 = {solver.depth + 1}: "
            f"{symbol}_0 and one for each step"
        )
    for k, x in enumerate(tensors):
        if x.shape != shape:
            raise ValueError(
                f"{type(solver).__name__}.{function} gave {symbol}_{k} of shape {tuple(x.shape)}, "
                f"needs {axes} = {tuple(shape)}"
            )
