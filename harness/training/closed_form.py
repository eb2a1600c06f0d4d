"""Closed forms: a bound's parameters from the moments of many prompts, how far from the best that may leave it, and
training that starts from them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lfombench.solvers import Fitted, FittedBound, Method
from lfombench.tasks import Prompts, Random

from ..compiler.select import program
from ..compiler.step import Step, Tensors, grouped, in_group
from ..compiler.streams import Streams
from ..spans import span
from .evaluate import CHUNK
from .pack import WorkOrder, drawing, expert_params, floats, with_floats

PROMPTS = 500 * CHUNK  # that a closed form is fitted to;
NUMBERS = 1 << 26  # fewer where their G would have more numbers than this
GROUPS = 50  # of prompts, each of which is left out in turn


class Fit(NamedTuple):
    """Parameters, what they were fitted to, and the expected excess of their mean squared error over the best ones'."""

    params: Tensors
    prompts: int
    excess: Float[Tensor, "jobs depth"] | None  # after 1 .. depth steps


def batches(d: int, prompts: int = PROMPTS) -> tuple[int, int]:
    """Number of batches, and of prompts in R^d in each, that a closed form is fitted to, about `prompts` in all."""
    total = min(prompts, NUMBERS // d**2)
    count = max(32, min(CHUNK, total // GROUPS))
    return max(GROUPS, total // count), count


@torch.no_grad()
def fit(order: WorkOrder, device: torch.device, prompts: int = PROMPTS) -> Fit:
    """Parameters in closed form, in float64: a bound's from prompts of its own and their exact statistics, whatever the
    protocol; others' from the training batch.

    prompts: how many a bound is fitted to, about.
    """
    pack = order.pack
    solver, dtype = cast(Fitted, pack.first.solver), torch.float64
    is_bound = isinstance(solver, FittedBound)
    on_queries = is_bound or pack.first.protocol.labels == "query"  # else with every example left out in turn
    source = drawing(pack, [job.task for job in pack.jobs], "fit" if is_bound else "train", dtype, device)
    job = source.job | grouped("solver", floats([job.solver for job in pack.jobs], dtype, device))
    job |= grouped("frozen", {name: p.to(dtype) for name, p in expert_params(order, device).items()})

    def draw(job: Tensors, random: Random, count: int) -> Prompts:
        if not is_bound:
            return source.batch(job, random, count)
        return with_floats(source.task, in_group("task", job)).prompts(random, job.get("frame"), count)

    def update(job: Tensors, state: Tensors, batch: Prompts, t: Tensor) -> tuple[Tensors, Tensors]:
        packed = with_floats(solver, in_group("solver", job))
        moments = packed.moments(in_group("frozen", job), batch.problem, batch.residual)
        return {}, {name: x.unsqueeze(0) if on_queries else x.sum(0) for name, x in moments.items()}

    times, count = batches(pack.first.task.d, prompts) if is_bound else (1, pack.first.protocol.batch)
    begins = range(0, times * count, count)
    step = Step(draw, update, count, None, dtype, ("fit", pack.program), pack.identity("fit"))
    run = program(step, job, {}, source.key, len(begins), order.engine)
    with span("fit"):
        sums: list[Tensors] = [{} for _ in range(GROUPS)]
        for i, begin in enumerate(begins):
            group = sums[i % GROUPS]
            for name, x in run(0, 1, begin).items():
                group[name] = group[name] + x[0, 0] if name in group else x[0, 0].clone()
        if not isinstance(solver, FittedBound):
            return Fit(dict(with_floats(solver, in_group("solver", job)).fit(sums[0])), count, None)
        moments = {name: torch.stack([group[name] for group in sums]) for name in sums[0]}
        return _jackknife(with_floats(solver, in_group("solver", job)), moments, times * count)


def _jackknife(solver: FittedBound, moments: Tensors, count: int) -> Fit:
    """A fit to moments of `groups jobs ...`. Its excess is estimated by leaving out each group in turn."""
    whole = {name: x.sum(0) for name, x in moments.items()}
    params = dict(solver.fit(whole))
    without = solver.fit({name: whole[name] - x for name, x in moments.items()})
    worse = solver.risk(without, whole) - solver.risk(params, whole)  # groups jobs depth
    return Fit(params, count, (GROUPS - 1) / GROUPS * worse.sum(0).clamp(min=0) / count)


def closed_form_start(order: WorkOrder, device: torch.device) -> Tensors | None:
    """Parameters that training starts from, `jobs ...`: the best method of a solver's kind. None where training starts
    from random numbers.

    The residual polynomial of the best method is a product of l factors 1 - x / r_l, each of them a layer.
    """
    solver = order.first.solver
    if not isinstance(solver, Method) or solver.bound is None:
        return None
    best = [job.changed(solver=solver.bound, protocol=replace(job.protocol, tune=())) for job in order.jobs]
    q = fit(order.for_jobs(best), device).params["q"][:, -1].cpu().numpy()  # p(x) = 1 - x q(x)
    roots = np.array([np.sort_complex(np.roots([*-row[::-1], 1.0])) for row in q])
    if np.abs(roots.imag).max() > 1e-6:
        raise ValueError(f"start: the best method of depth {solver.depth} has roots that are not real")
    source = drawing(order.pack, [job.task for job in order.jobs], "init", torch.float64, device)
    task = with_floats(source.task, in_group("task", source.job))
    dual = task.examples(Streams(source.key, torch.float64), source.job.get("frame"), 2).law.dual
    if "covariance" in solver.bound.needs and (dual is None or dual.shape[-1] != 1):
        raise ValueError("start: there is no one Sigma^{-1} for all prompts to start from")
    r = torch.tensor(roots.real[:, ::-1].copy(), device=device)
    inverse = None if dual is None else dual[..., 0] @ dual[..., 0].mT
    return dict(solver.layers(r, inverse))
