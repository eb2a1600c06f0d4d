"""Train and test a pack as one program.

Axes: `rates` are the learning rates that a protocol tunes over, `jobs` the jobs of the pack, `prompts` come last.
Parameters are `rates jobs ...` and prompts `jobs ...`, so that every rate of a job meets the same prompts. No member
of the pack can touch another: every operation is elementwise over rates and jobs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lfombench.solvers import Method, Params
from lfombench.tasks import Prompts, Task

from .pack import Pack, Source, per_job, stack
from .protocol import Protocol
from .streams import Streams

CHUNK = 6400  # test prompts in memory at once
FIT_PROMPTS = 102_400  # for what is fitted in closed form
CURVE_POINTS = 100

Tensors = dict[str, Tensor]


@dataclass
class Trained:
    """What training leaves of a pack. The lists have an entry per job."""

    params: Tensors  # jobs ...
    learning_rates: list[float | None]
    diverged: list[str | None]  # why, where a job did
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
    protocol, dtype = pack.first.protocol, torch.float32
    source = Source([job.task for job in pack.jobs], pack.jobs, "train", dtype, device)
    solver = stack([job.solver for job in pack.jobs], dtype, device)
    params = initial(pack, device)
    probe = Source([job.task for job in pack.jobs], pack.jobs, "probe", dtype, device)
    few = probe.draw(2, through=protocol.draw, query=protocol.query)
    _expect(solver, list(solver.iterates({name: p[0] for name, p in params.items()}, few.problem)), few)
    rates = torch.tensor([job.protocol.learning_rates for job in pack.jobs], dtype=dtype, device=device).T  # rates jobs
    beta1, beta2 = ([getattr(job.protocol, name) for job in pack.jobs] for name in ("beta1", "beta2"))
    mean = {name: torch.zeros_like(p) for name, p in params.items()}
    square = {name: torch.zeros_like(p) for name, p in params.items()}
    b1 = {name: per_job(beta1, p) for name, p in params.items()}
    b2 = {name: per_job(beta2, p) for name, p in params.items()}
    alive = torch.ones_like(rates, dtype=torch.bool)
    died = torch.zeros_like(rates, dtype=torch.int64)
    points: list[int] = []
    losses, norms = [], []
    every = max(1, protocol.steps // CURVE_POINTS)
    prompts: Prompts | None = None
    for step in range(1, protocol.steps + 1):
        if prompts is None or protocol.fresh:
            prompts = source.draw(protocol.batch, through=protocol.draw, query=protocol.query)
        loss, gradients, norm = loss_and_gradient(solver, params, prompts)
        alive &= loss.isfinite() & norm.isfinite()
        died = torch.where((died == 0) & ~alive, step, died)
        if step % every == 0 or step == 1:
            points.append(step)
            losses.append(loss)
            norms.append(norm)
        rate = torch.where(alive, rates * schedule(protocol, step), 0.0)
        for name, g in gradients.items():
            mean[name] = mean[name] + (1 - b1[name]) * (g - mean[name])
            square[name] = square[name] + (1 - b2[name]) * (g * g - square[name])
            corrected = (square[name] / (1 - b2[name] ** step)).sqrt() + 1e-8
            update = mean[name] / (1 - b1[name] ** step) / corrected
            params[name] = params[name] - torch.where(_like(alive, update), _like(rate, update) * update, 0.0)
    best = choose(pack, solver, params, alive, device)
    jobs = torch.arange(len(pack.jobs), device=device)
    reasons = [
        None if alive[k, j] else f"training loss was not finite at step {died[k, j]}, learning rate {rates[k, j]:g}"
        for j, k in enumerate(best.tolist())
    ]
    return Trained(
        {name: p[best, jobs] for name, p in params.items()},
        [job.protocol.learning_rates[k] for job, k in zip(pack.jobs, best.tolist(), strict=True)],
        reasons,
        points,
        torch.stack(losses)[:, best, jobs],
        torch.stack(norms)[:, best, jobs],
    )


def loss_and_gradient(solver: Method, params: Tensors, prompts: Prompts) -> tuple[Tensor, Tensors, Tensor]:
    """Mean squared error of the last iterate, its gradient, and the gradient's norm, for every member: rates jobs."""
    leaves = {name: p.requires_grad_() for name, p in params.items()}
    loss = prompts.squared_error(last(solver.iterates(leaves, prompts.problem))).mean(-1)
    gradients = torch.autograd.grad(loss.sum(), list(leaves.values()), allow_unused=True, materialize_grads=True)
    for p in params.values():
        p.requires_grad_(False)
    norm = torch.stack([g.flatten(2).square().sum(-1) for g in gradients]).sum(0).sqrt()
    return loss.detach(), dict(zip(leaves, gradients, strict=True)), norm


def schedule(protocol: Protocol, step: int) -> float:
    """The factor on the learning rate at a step, counted from 1."""
    if protocol.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - 1) / protocol.steps))


def initial(pack: Pack, device: torch.device) -> Tensors:
    """Parameters of every member, rates jobs ...: a stream per job, the same start for all its rates."""
    random = Streams([("init", job.id) for job in pack.jobs], torch.float32, device)
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


@torch.no_grad()
def choose(
    pack: Pack, solver: Method, params: Tensors, alive: Bool[Tensor, "rates jobs"], device: torch.device
) -> Tensor:
    """Index of each job's best learning rate by validation loss; of its first where all diverged."""
    protocol = pack.first.protocol
    if len(protocol.learning_rates) == 1:
        return torch.zeros(len(pack.jobs), dtype=torch.int64, device=device)
    source = Source([job.task for job in pack.jobs], pack.jobs, "validation", torch.float32, device)
    prompts = source.draw(protocol.validation_prompts, through=protocol.draw, query=protocol.query)
    loss = prompts.squared_error(last(solver.iterates(params, prompts.problem))).mean(-1)
    return torch.where(alive, loss.nan_to_num(nan=math.inf), math.inf).argmin(0)


@torch.no_grad()
def fit(pack: Pack, device: torch.device) -> Tensors:
    """Parameters in closed form, from prompts of their own."""
    source = Source([job.task for job in pack.jobs], pack.jobs, "fit", torch.float64, device)
    prompts = source.draw(FIT_PROMPTS, through="statistics", query="exact")
    return dict(stack([job.solver for job in pack.jobs], torch.float64, device).fit(prompts.problem, prompts.residual))


@torch.no_grad()
def test(pack: Pack, params: Params, task: Task | None, device: torch.device) -> Float[Tensor, "jobs steps prompts"]:
    """Squared error of every iterate on test prompts, in float64: those of each job's own task, or of `task`."""
    protocol, dtype = pack.first.protocol, torch.float64
    tasks = [job.task if task is None else task for job in pack.jobs]
    source = Source(tasks, pack.jobs, "test", dtype, device)
    solver = stack([job.solver for job in pack.jobs], dtype, device)
    params = {name: p.to(dtype) for name, p in params.items()}
    withheld = protocol.withheld if solver.family == "classical" else 0
    errors = []
    for begin in range(0, protocol.test_prompts, CHUNK):
        count = min(CHUNK, protocol.test_prompts - begin)
        prompts = source.draw(count, through=protocol.draw, query=protocol.query, withheld=withheld)
        iterates = list(solver.iterates(params, prompts.problem))
        _expect(solver, iterates, prompts)
        errors.append(torch.stack([prompts.squared_error(w) for w in iterates], 1))
    return torch.cat(errors, -1)


def _expect(solver: Method, iterates: list[Tensor], prompts: Prompts) -> None:
    """ValueError where a solver breaks its contract: depth + 1 iterates, each shaped like w*."""
    if len(iterates) != solver.depth + 1:
        raise ValueError(
            f"{type(solver).__name__}.iterates gave {len(iterates)} iterates, needs depth + 1 = {solver.depth + 1}: "
            "w_0 and one for each step"
        )
    for k, w in enumerate(iterates):
        if w.shape != prompts.w_star.shape:
            raise ValueError(
                f"{type(solver).__name__}.iterates gave w_{k} of shape {tuple(w.shape)}, "
                f"needs (jobs, d, prompts) = {tuple(prompts.w_star.shape)}"
            )


def last(iterates: Iterator[Tensor]) -> Tensor:
    """The final iterate."""
    for w in iterates:  # noqa: B007  # the name outlives the loop
        pass
    return w


def _like(member: Tensor, update: Tensor) -> Tensor:
    """A value per member, shaped to broadcast with an update."""
    return member.view(*member.shape, *[1] * (update.ndim - 2))
