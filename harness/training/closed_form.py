"""Closed forms: a bound's parameters from the moments of many prompts, and how far from the best that may leave it."""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor

from lfombench.solvers import Fitted, FittedBound
from lfombench.tasks import Prompts, Random

from ..compiler.select import program
from ..compiler.step import Step, Tensors, named, under
from ..spans import span
from .evaluate import CHUNK
from .pack import Pack, floats, having, of_experts, prompts

PROMPTS = 500 * CHUNK  # that a closed form is fitted to;
NUMBERS = 1 << 26  # fewer where their G would have more numbers than this
GROUPS = 50  # of prompts, each of which is left out in turn


class Fit(NamedTuple):
    """Parameters, what they were fitted to, and the expected excess of their mean squared error over the best ones'."""

    params: Tensors
    prompts: int
    excess: Float[Tensor, "jobs depth"] | None  # after 1 .. depth steps


def batches(d: int) -> tuple[int, int]:
    """How many batches, of how many prompts in R^d, a closed form is fitted to."""
    total = min(PROMPTS, NUMBERS // d**2)
    count = max(32, min(CHUNK, total // GROUPS))
    return max(GROUPS, total // count), count


@torch.no_grad()
def fit(pack: Pack, device: torch.device) -> Fit:
    """Parameters in closed form, in float64: a bound's from prompts of its own and their exact statistics, whatever the
    protocol; others' from the training batch.
    """
    solver, dtype = cast(Fitted, pack.first.solver), torch.float64
    bound = isinstance(solver, FittedBound)
    on_queries = bound or pack.first.protocol.labels == "query"  # else with every example left out in turn
    drawing = prompts(pack, [job.task for job in pack.jobs], "fit" if bound else "train", dtype, device)
    job = drawing.job | named("solver", floats([job.solver for job in pack.jobs], dtype, device))
    job |= named("still", {name: p.to(dtype) for name, p in of_experts(pack, device).items()})

    def draw(job: Tensors, random: Random, count: int) -> Prompts:
        if not bound:
            return drawing.batch(job, random, count)
        return having(drawing.task, under("task", job)).prompts(random, job.get("frame"), count)

    def update(job: Tensors, state: Tensors, batch: Prompts, t: Tensor) -> tuple[Tensors, Tensors]:
        one = having(solver, under("solver", job))
        found = one.moments(under("still", job), batch.problem, batch.residual)
        return {}, {name: x.unsqueeze(0) if on_queries else x.sum(0) for name, x in found.items()}

    times, count = batches(pack.first.task.d) if bound else (1, pack.first.protocol.batch)
    begins = range(0, times * count, count)
    step = Step(draw, update, count, None, dtype, ("fit", pack.program))
    run = program(step, job, {}, drawing.key, len(begins), as_written=pack.as_written)
    with span("fit"):
        sums: list[Tensors] = [{} for _ in range(GROUPS)]
        for i, begin in enumerate(begins):
            group = sums[i % GROUPS]
            for name, x in run(0, 1, begin).items():
                group[name] = group[name] + x[0, 0] if name in group else x[0, 0].clone()
        if not isinstance(solver, FittedBound):
            return Fit(dict(having(solver, under("solver", job)).fit(sums[0])), count, None)
        moments = {name: torch.stack([group[name] for group in sums]) for name in sums[0]}
        return _fit(having(solver, under("solver", job)), moments, times * count)


def _fit(solver: FittedBound, moments: Tensors, count: int) -> Fit:
    """From moments of `groups jobs ...`. The excess is estimated by the jackknife: a group is left out in turn."""
    whole = {name: x.sum(0) for name, x in moments.items()}
    params = dict(solver.fit(whole))
    without = solver.fit({name: whole[name] - x for name, x in moments.items()})
    worse = solver.risk(without, whole) - solver.risk(params, whole)  # groups jobs depth
    return Fit(params, count, (GROUPS - 1) / GROUPS * worse.sum(0).clamp(min=0) / count)
