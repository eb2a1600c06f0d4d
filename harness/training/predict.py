"""A trained job's predictions for prompts that are given, not drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from lfombench.solvers import Oracle, TokenModel
from lfombench.tasks.prompts import Examples

from ..compiler.step import grouped, in_group
from ..compiler.streams import Streams
from ..errors import UserError
from ..spec.job import Job
from .evaluate import iterates
from .pack import Pack, drawing, floats, with_floats

CPU, DTYPE = torch.device("cpu"), torch.float64


def example(job: Job, prompts: int) -> dict[str, Tensor]:
    """Prompts of a job's own task, as `predictions` takes them."""
    drawn = _drawn(job, prompts)
    return {"X": drawn.X[0].permute(2, 1, 0), "y": drawn.y[0].T, "query": drawn.query[0].T}


@torch.no_grad()
def predictions(
    job: Job,
    params: Mapping[str, Tensor],
    X: Float[Tensor, "prompts n d"],
    y: Float[Tensor, "prompts n"],
    query: Float[Tensor, "prompts d"],
) -> Float[Tensor, "prompts steps"]:
    """What a job's solver answers to each query after 0 .. depth steps, in float64. job: with the floats that were
    chosen for it; params: what training left.

    What a solver is told of the distribution is that of the job's task. UserError where nobody can tell it: an oracle
    is told each prompt's w*, and some tasks draw a covariance for each prompt.
    """
    if isinstance(job.solver, Oracle):
        raise UserError(f"{type(job.solver).__name__} is told the answer of every prompt: it predicts nothing")
    drawn = _drawn(job, len(X))
    if job.case.told and drawn.law.root.shape[-1] > 1:
        raise UserError("its task draws a covariance for each prompt, which the solver is told: nobody knows that here")
    mine = [part.to(DTYPE).unsqueeze(0).contiguous() for part in (X.permute(2, 1, 0), y.T, query.T)]
    unknown = torch.zeros_like(mine[1][:, 0])
    examples = replace(drawn, X=mine[0], y=mine[1], query=mine[2], w_star=None, target=unknown)
    solver = with_floats(job.solver, floats([job.solver], DTYPE, CPU))
    weights = in_group("p", grouped("p", {name: value.to(DTYPE).unsqueeze(0) for name, value in params.items()}))
    if solver.on_tokens:
        answers = list(cast(TokenModel, solver).predictions(weights, examples.tokens()))
    else:
        batch = examples.prompts(sampled_query=True)
        answers = [(w * examples.query).sum(-2) for w in iterates(solver, weights, batch)]
    return torch.stack([answer[0] for answer in answers], -1)


def _drawn(job: Job, prompts: int) -> Examples:
    """Prompts of a job's own task, with what is known of their law."""
    source = drawing(Pack((job,)), [job.task], "test", DTYPE, CPU)
    task = with_floats(source.task, in_group("task", source.job))
    return task.examples(Streams(source.key, DTYPE), source.job.get("frame"), prompts)
