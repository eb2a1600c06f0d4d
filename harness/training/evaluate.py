"""What a solver does on prompts: the error of its iterates, on test and validation prompts; its contract.

Axes: `trials` are what a protocol tunes over, `jobs` the jobs of the pack, `prompts` come last.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from lfombench.solvers import Method, Oracle, Solver, TokenModel
from lfombench.tasks import Prompts, Random, Task

from ..compiler.select import program
from ..compiler.step import Step, Tensors, named, under
from ..compiler.streams import Streams
from ..spans import span
from ..spec.labels import shape_of
from .pack import Drawing, Pack, floats, having, prompts

CHUNK = 2048  # prompts at a time


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
    """The final one."""
    return deque(values, maxlen=1)[0]


def test(pack: Pack, params: Tensors, task: Task | None, device: torch.device) -> Float[Tensor, "jobs steps prompts"]:
    """Squared error of every iterate on test prompts: those of each job's own task, or of `task`."""
    protocol = pack.first.protocol
    if task is None and protocol.test_on == "training":
        return measure(pack, params, [job.task for job in pack.jobs], "train", protocol.batch, device)
    tasks = [job.task if task is None else task for job in pack.jobs]
    return measure(pack, params, tasks, "test", protocol.test_prompts, device)


@torch.no_grad()
def measure(
    pack: Pack, params: Tensors, tasks: Sequence[Task], role: str, total: int, device: torch.device
) -> Float[Tensor, "jobs steps prompts"]:
    """Squared error of every iterate on so many prompts of a role, in float64. Parameters are `jobs ...`."""
    protocol, solver, dtype = pack.first.protocol, pack.first.solver, torch.float64
    drawing = prompts(pack, tasks, role, dtype, device)
    withheld = protocol.withheld if solver.family == "classical" else 0
    job = drawing.job | named("solver", floats([job.solver for job in pack.jobs], dtype, device))
    job |= named("p", {name: p.to(dtype).contiguous() for name, p in params.items()})

    def draw(job: Tensors, random: Random, count: int) -> Prompts:
        return drawing.draw(job, random, count, withheld)

    def update(job: Tensors, state: Tensors, batch: Prompts, t: Tensor) -> tuple[Tensors, Tensors]:
        found = list(errors(having(solver, under("solver", job)), under("p", job), batch))
        return {}, {"error": torch.stack(found, 1).unsqueeze(0)}

    expect(having(solver, under("solver", job)), under("p", job), drawing)
    count = min(CHUNK, total)
    begins = range(0, total, count)
    step = Step(
        draw, update, count, None, dtype, ("test", pack.program, type(tasks[0]), json.dumps(shape_of(tasks[0])))
    )
    run = program(step, job, {}, drawing.key, len(begins), as_written=pack.as_written)
    with span(role):
        found = [run(0, 1, begin)["error"][0, 0, ..., :count] for begin in begins]
    return torch.cat(found, -1)[..., :total]


@torch.no_grad()
def validate(
    pack: Pack, tried: Sequence[Sequence[int]], params: Tensors, device: torch.device
) -> Float[Tensor, "trials jobs"]:
    """Mean error of the last iterate of every member on the validation prompts. Parameters are `trials jobs ...`.

    tried: which trials of each job, trials jobs.
    """
    members = replace(pack, jobs=tuple(job.tried(k) for row in tried for job, k in zip(pack.jobs, row, strict=True)))
    tasks = [job.task for job in members.jobs]
    flat = {name: p.flatten(0, 1) for name, p in params.items()}
    error = measure(members, flat, tasks, "validation", pack.first.protocol.validation_prompts, device)
    return error[:, -1].mean(-1).view(len(tried), len(pack.jobs))


@torch.no_grad()
def expect(solver: Solver, params: Tensors, drawing: Drawing) -> None:
    """ValueError where a solver breaks its contract: depth + 1 iterates shaped like w*, or as many predictions."""
    batch = drawing.draw(drawing.job, Streams(drawing.key, next(iter([*params.values(), torch.empty(0)])).dtype), 2)
    if solver.on_tokens:
        assert batch.tokens is not None
        given = list(cast(TokenModel, solver).predictions(params, batch.tokens))
        function, what, axes, shape = "predictions", "y", "(jobs, prompts)", batch.target().shape
    else:
        given = list(iterates(solver, params, batch))
        function, what, axes, shape = "iterates", "w", "(jobs, d, prompts)", batch.w_star.shape
    if len(given) != solver.depth + 1:
        raise ValueError(
            f"{type(solver).__name__}.{function} gave {len(given)} tensors, needs depth + 1 = {solver.depth + 1}: "
            f"{what}_0 and one for each step"
        )
    for k, x in enumerate(given):
        if x.shape != shape:
            raise ValueError(
                f"{type(solver).__name__}.{function} gave {what}_{k} of shape {tuple(x.shape)}, "
                f"needs {axes} = {tuple(shape)}"
            )
