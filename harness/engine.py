"""Train and test a pack as one program.

Axes: `rates` are the learning rates that a protocol tunes over, `jobs` the jobs of the pack, `prompts` come last.
Parameters are `rates jobs ...` and prompts `jobs ...`, so that every rate of a job meets the same prompts. No member
of the pack can touch another: every operation is elementwise over rates and jobs.

What happens in a step is written here, once, in tensors; how it is run (`program.py`) changes no number beyond
rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from lfombench.solvers import Solver
from lfombench.tasks import Prompts, Task

from . import adam
from .evaluate import choose, errors, expect, fit, last, test
from .pack import Pack, floats, having, per_job, prompts
from .profile import span
from .program import program
from .step import Step, Tensors, named, under
from .streams import Streams, keys

CURVE_POINTS = 100
STEPS = 500  # training steps between two looks at what came of them


@dataclass
class Trained:
    """What training leaves of a pack. The lists have an entry per job."""

    params: Tensors  # jobs ...
    learning_rates: list[float | None]
    diverged: list[str | None]  # why, where a job did
    engine: str | None = None  # how it ran
    curve_steps: list[int] = field(default_factory=list)
    losses: Float[Tensor, "points jobs"] = field(default_factory=lambda: torch.empty(0, 0))
    gradient_norms: Float[Tensor, "points jobs"] = field(default_factory=lambda: torch.empty(0, 0))


def run(pack: Pack, device: torch.device) -> tuple[Trained, Iterator[tuple[Task | None, Tensor]]]:
    """Train a pack, then test it on each job's own task (None) and on the pack's further tasks, in that order."""
    family = pack.first.solver.family
    if family == "learned":
        trained = train(pack, device)
    else:
        params = fit(pack, device) if family == "bound" else {}
        trained = Trained(params, [None] * len(pack.jobs), [None] * len(pack.jobs))
    return trained, ((task, test(pack, trained.params, task, device)) for task in (None, *pack.tests))


def train(pack: Pack, device: torch.device) -> Trained:
    """Adam on every member at once, then the learning rate by validation loss."""
    protocol = pack.first.protocol
    step, job, state, key = training(pack, device)
    advance = program(step, job, state, key, protocol.steps, as_written=pack.as_written)
    points = [t for t in range(1, protocol.steps + 1) if t % max(1, protocol.steps // CURVE_POINTS) == 0 or t == 1]
    losses, norms = [], []
    for first in range(0, protocol.steps, STEPS):
        with span("train"):
            records = advance(first, min(STEPS, protocol.steps - first))
        kept = [t - 1 - first for t in points if first < t <= first + STEPS]
        losses.append(records["loss"][kept])
        norms.append(records["norm"][kept])
    alive, died, rates = state["alive"], state["died"], state["rate"]
    params = under("p", state)
    best = choose(pack, params, alive, device)
    jobs = torch.arange(len(pack.jobs), device=device)
    reasons = [
        None if alive[k, j] else f"training loss was not finite at step {died[k, j]}, learning rate {rates[k, j]:g}"
        for j, k in enumerate(best.tolist())
    ]
    return Trained(
        {name: p[best, jobs] for name, p in params.items()},
        [job.protocol.learning_rates[k] for job, k in zip(pack.jobs, best.tolist(), strict=True)],
        reasons,
        advance.name,
        points,
        torch.cat(losses)[:, best, jobs],
        torch.cat(norms)[:, best, jobs],
    )


def training(pack: Pack, device: torch.device) -> tuple[Step, Tensors, Tensors, Tensor]:
    """A training step of every member; what it needs of each job; its state; the prompts' keys."""
    protocol, solver = pack.first.protocol, pack.first.solver
    compute = getattr(torch, protocol.dtype)  # in the layers
    dtype = torch.float64 if protocol.dtype == "float64" else torch.float32  # of parameters and Adam
    drawing = prompts(pack, [job.task for job in pack.jobs], "train", compute, device)
    job = drawing.job | named("solver", floats([job.solver for job in pack.jobs], compute, device))
    for name in ("beta1", "beta2"):
        values = [getattr(job.protocol, name) for job in pack.jobs]
        job[name] = torch.tensor(values, dtype=torch.float64, device=device)
    params = {name: p.to(dtype) for name, p in initial(pack, device).items()}
    expect(having(solver, under("solver", job)), {name: p[0].to(compute) for name, p in params.items()}, drawing)
    rates = torch.tensor([job.protocol.learning_rates for job in pack.jobs], dtype=dtype, device=device).T.contiguous()
    state = adam.start(params, rates)

    def update(job: Tensors, state: Tensors, batch: Prompts, t: Tensor) -> tuple[Tensors, Tensors]:
        one = having(solver, under("solver", job))
        loss, gradients = loss_and_gradient(one, under("p", state), batch, protocol.batch)
        return adam.update(protocol, job, state, loss, gradients, t)

    step = Step(drawing.draw, update, protocol.batch, protocol.fresh, compute, ("train", pack.program))
    return step, job, state, drawing.key


def loss_and_gradient(solver: Solver, params: Tensors, batch: Prompts, count: int) -> tuple[Tensor, Tensors]:
    """Mean squared error of the last iterate over `count` prompts and its gradient, for every member: rates jobs."""

    def total(params: Tensors) -> tuple[Tensor, Tensor]:
        cast = {name: p.to(batch.w_star.dtype) for name, p in params.items()}
        loss = last(errors(solver, cast, batch)).to(next(iter(params.values())).dtype).sum(-1) / count
        return loss.sum(), loss

    gradients, loss = torch.func.grad(total, has_aux=True)(params)
    return loss, gradients


def initial(pack: Pack, device: torch.device) -> Tensors:
    """Parameters of every member, rates jobs ...: a stream per job, the same start for all its rates."""
    random = Streams(keys([("init", job.id) for job in pack.jobs], device), torch.float32)
    scales = [job.protocol.init_scale for job in pack.jobs]

    def normal(*shape: int) -> Tensor:
        drawn = random.normal(*shape).unsqueeze(0)
        return drawn * per_job(scales, drawn)

    solver, rates = pack.first.solver, len(pack.first.protocol.learning_rates)
    params = solver.init(pack.first.task.d, normal)
    if not params:
        raise ValueError(f"{type(solver).__name__} is a learned method: its init must return parameters")
    for name, p in params.items():
        if p.ndim < 2 or p.shape[:2] != (1, len(pack.jobs)):
            raise ValueError(
                f"{type(solver).__name__}.init gave {name} of shape {tuple(p.shape)}, "
                f"needs (1, {len(pack.jobs)}, ...): make it with normal(...), which puts the jobs in front"
            )
    return {name: p.expand(rates, *p.shape[1:]).clone() for name, p in params.items()}
