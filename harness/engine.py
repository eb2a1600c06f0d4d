"""Train and test a pack as one program.

Axes: `rates` are the learning rates that a protocol tunes over, `jobs` the jobs of the pack, `prompts` come last.
Parameters are `rates jobs ...` and prompts `jobs ...`, so that every rate of a job meets the same prompts. No member
of the pack can touch another: every operation is elementwise over rates and jobs.

What happens in a step is written here, once, in tensors; how it is run (`program.py`) changes no number beyond
rounding.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lfombench.solvers import Method, Solver, TokenModel, on_tokens
from lfombench.tasks import Prompts, Quadratic, Random, Task

from .pack import Drawing, Pack, floats, having, per_job, prompts, stack, under
from .profile import span
from .program import program
from .protocol import Protocol
from .step import Step, Tensors
from .streams import Streams, keys

CHUNK = 2048  # test prompts at a time
FIT_NUMBERS = 1 << 26  # of all G that a closed form is fitted to: half a gigabyte
FIT_PROMPTS = 102_400  # as many as that allows at most
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
    """A step of Adam (Kingma & Ba, 2015) for every member; what it needs of each job; its state; the prompts' keys.

    A member whose loss or gradient is not finite stays as it was.
    """
    protocol, solver = pack.first.protocol, pack.first.solver
    compute = getattr(torch, protocol.dtype)  # in the layers
    dtype = torch.float64 if protocol.dtype == "float64" else torch.float32  # of parameters and Adam
    drawing = prompts(pack, [job.task for job in pack.jobs], "train", compute, device)
    job = drawing.job | _named("solver", floats([job.solver for job in pack.jobs], compute, device))
    for name in ("beta1", "beta2"):
        values = [getattr(job.protocol, name) for job in pack.jobs]
        job[name] = torch.tensor(values, dtype=torch.float64, device=device)
    params = {name: p.to(dtype) for name, p in initial(pack, device).items()}
    _expect(having(solver, under("solver", job)), {name: p[0].to(compute) for name, p in params.items()}, drawing)
    rates = torch.tensor([job.protocol.learning_rates for job in pack.jobs], dtype=dtype, device=device).T.contiguous()
    state = _named("p", params)
    state |= _named("mean", {name: torch.zeros_like(p) for name, p in params.items()})
    state |= _named("square", {name: torch.zeros_like(p) for name, p in params.items()})
    state |= {"rate": rates, "alive": torch.ones_like(rates, dtype=torch.bool)}
    state["died"] = torch.zeros_like(rates, dtype=torch.int64)

    def update(job: Tensors, state: Tensors, batch: Prompts, t: Tensor) -> tuple[Tensors, Tensors]:
        loss, gradients = loss_and_gradient(
            having(solver, under("solver", job)), under("p", state), batch, protocol.batch
        )
        norm = sum(_over(g.square()) for g in gradients.values()).sqrt()  # type: ignore[union-attr]
        alive = state["alive"] & loss.isfinite() & norm.isfinite()
        step = t + 1
        died = torch.where((state["died"] == 0) & ~alive, step, state["died"])
        rate = torch.where(alive, state["rate"] * schedule(protocol, t).to(dtype), 0.0)
        new = {"alive": alive, "died": died}
        for name, g in gradients.items():
            b1, b2 = (_like(job[b].to(dtype).unsqueeze(0), g) for b in ("beta1", "beta2"))
            c1, c2 = (_like((1 - job[b] ** step.double()).to(dtype).unsqueeze(0), g) for b in ("beta1", "beta2"))
            p, mean, square = (state[f"{part}.{name}"] for part in ("p", "mean", "square"))
            mean = mean + (1 - b1) * (g - mean)
            square = square + (1 - b2) * (g * g - square)
            change = _like(rate, g) * (mean / c1 / ((square / c2).sqrt() + 1e-8))
            new[f"p.{name}"] = p - torch.where(_like(alive, g), change, 0.0)
            new[f"mean.{name}"], new[f"square.{name}"] = mean, square
        return new, {"loss": loss, "norm": norm}

    return Step(drawing.draw, update, protocol.batch, protocol.fresh, compute), job, state, drawing.key


def parts(pack: Pack, device: torch.device, steps: int = 50) -> list[float]:
    """Shares of a training step that go to drawing, forward, backward and optimiser: programs of one more part each."""
    full, given, state, key = training(pack, device)

    def drawn(job: Tensors, state: Tensors, batch: Prompts, t: Tensor) -> tuple[Tensors, Tensors]:
        given = [batch.problem.G, batch.problem.b] if batch.tokens is None else [batch.tokens]
        total = sum(x.reshape(len(x), -1, x.shape[-1]).sum((1, 2)) for x in (*given, batch.w_star))
        return {}, {"total": total + torch.zeros_like(state["rate"])}

    def forward(job: Tensors, state: Tensors, batch: Prompts, t: Tensor) -> tuple[Tensors, Tensors]:
        solver = having(pack.first.solver, under("solver", job))
        params = {name: p.to(batch.w_star.dtype) for name, p in under("p", state).items()}
        return {}, {"loss": last(errors(solver, params, batch)).sum(-1)}

    def backward(job: Tensors, state: Tensors, batch: Prompts, t: Tensor) -> tuple[Tensors, Tensors]:
        return {}, full.update(job, state, batch, t)[1]

    taken = []
    for update in (drawn, forward, backward, full.update):
        run = program(
            replace(full, update=update), given, state, key, pack.first.protocol.steps, as_written=pack.as_written
        )
        run(0, 2)
        begin = time.perf_counter()
        run(2, steps)
        taken.append(time.perf_counter() - begin)
    each = [max(b - a, 0.0) for a, b in zip([0.0, *taken], taken, strict=False)]
    return [x / sum(each) for x in each]


def loss_and_gradient(solver: Solver, params: Tensors, batch: Prompts, count: int) -> tuple[Tensor, Tensors]:
    """Mean squared error of the last iterate over `count` prompts and its gradient, for every member: rates jobs."""

    def total(params: Tensors) -> tuple[Tensor, Tensor]:
        cast = {name: p.to(batch.w_star.dtype) for name, p in params.items()}
        loss = last(errors(solver, cast, batch)).to(next(iter(params.values())).dtype).sum(-1) / count
        return loss.sum(), loss

    gradients, loss = torch.func.grad(total, has_aux=True)(params)
    return loss, gradients


def errors(solver: Solver, params: Tensors, batch: Prompts) -> Iterator[Tensor]:
    """Squared error of every prompt after 0 .. depth steps."""
    if on_tokens(solver):
        assert batch.tokens is not None
        target = batch.target()
        for y in cast(TokenModel, solver).predictions(params, batch.tokens):
            yield (y - target).square()
    else:
        for w in cast(Method, solver).iterates(params, batch.problem):
            yield batch.squared_error(w)


def schedule(protocol: Protocol, t: Tensor) -> Tensor:
    """The factor on the learning rate at a step, counted from 0; in float64."""
    if protocol.schedule == "constant":
        return torch.ones_like(t, dtype=torch.float64)
    return 0.5 * (1 + (t.double() * (math.pi / protocol.steps)).cos())


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


@torch.no_grad()
def choose(pack: Pack, params: Tensors, alive: Bool[Tensor, "rates jobs"], device: torch.device) -> Tensor:
    """Index of each job's best learning rate by validation loss; of its first where all diverged."""
    protocol, solver = pack.first.protocol, pack.first.solver
    if len(protocol.learning_rates) == 1:
        return torch.zeros(len(pack.jobs), dtype=torch.int64, device=device)
    dtype = next(iter(params.values())).dtype
    drawing = prompts(pack, [job.task for job in pack.jobs], "validation", dtype, device)
    job = drawing.job | _named("solver", floats([job.solver for job in pack.jobs], dtype, device))

    def update(job: Tensors, params: Tensors, batch: Prompts, t: Tensor) -> tuple[Tensors, Tensors]:
        error = last(errors(having(solver, under("solver", job)), params, batch))
        return {}, {"loss": error.sum(-1) / protocol.validation_prompts}

    step = Step(drawing.draw, update, protocol.validation_prompts, False, dtype)
    validate = program(step, job, dict(params), drawing.key, 1, as_written=pack.as_written)
    with span("validate"):
        loss = validate(0, 1)["loss"][0]
    return torch.where(alive, loss.nan_to_num(nan=math.inf), math.inf).argmin(0)


def fit_prompts(d: int) -> int:
    """How many prompts in R^d a closed form is fitted to."""
    return min(FIT_PROMPTS, FIT_NUMBERS // d**2)


@torch.no_grad()
def fit(pack: Pack, device: torch.device) -> Tensors:
    """Parameters in closed form, from prompts of their own."""
    dtype = torch.float64
    drawing = prompts(pack, [job.task for job in pack.jobs], "fit", dtype, device)
    solver = stack([job.solver for job in pack.jobs], dtype, device)
    batch = _batch(drawing, fit_prompts(pack.first.task.d), pack.as_written)
    with span("fit"):
        return dict(cast(Method, solver).fit(batch.problem, batch.residual))


@torch.no_grad()
def test(pack: Pack, params: Tensors, task: Task | None, device: torch.device) -> Float[Tensor, "jobs steps prompts"]:
    """Squared error of every iterate on test prompts, in float64: those of each job's own task, or of `task`."""
    protocol, solver, dtype = pack.first.protocol, pack.first.solver, torch.float64
    tasks = [job.task if task is None else task for job in pack.jobs]
    drawing = prompts(pack, tasks, "test", dtype, device)
    withheld = protocol.withheld if solver.family == "classical" else 0
    job = drawing.job | _named("solver", floats([job.solver for job in pack.jobs], dtype, device))
    job |= _named("p", {name: p.to(dtype).contiguous() for name, p in params.items()})

    def draw(job: Tensors, random: Random, count: int) -> Prompts:
        return drawing.draw(job, random, count, withheld)

    def update(job: Tensors, state: Tensors, batch: Prompts, t: Tensor) -> tuple[Tensors, Tensors]:
        found = list(errors(having(solver, under("solver", job)), under("p", job), batch))
        return {}, {"error": torch.stack(found, 1).unsqueeze(0)}

    _expect(having(solver, under("solver", job)), under("p", job), drawing)
    count = min(CHUNK, protocol.test_prompts)
    begins = range(0, protocol.test_prompts, count)
    step = Step(draw, update, count, False, dtype)
    measure = program(step, job, {}, drawing.key, len(begins), as_written=pack.as_written)
    with span("test"):
        found = [measure(0, 1, begin)["error"][0, 0, ..., :count] for begin in begins]
    return torch.cat(found, -1)[..., : protocol.test_prompts]


@torch.no_grad()
def _expect(solver: Solver, params: Tensors, drawing: Drawing) -> None:
    """ValueError where a solver breaks its contract: depth + 1 iterates shaped like w*, or as many predictions."""
    batch = drawing.draw(drawing.job, Streams(drawing.key, next(iter([*params.values(), torch.empty(0)])).dtype), 2)
    if on_tokens(solver):
        assert batch.tokens is not None
        given = list(cast(TokenModel, solver).predictions(params, batch.tokens))
        function, what, axes, shape = "predictions", "y", "(jobs, prompts)", batch.target().shape
    else:
        given = list(cast(Method, solver).iterates(params, batch.problem))
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


def last(values: Iterator[Tensor]) -> Tensor:
    """The final one."""
    for w in values:  # noqa: B007  # the name outlives the loop
        pass
    return w


def _batch(drawing: Drawing, count: int, as_written: bool) -> Prompts:
    """Prompts in exact statistics, whatever the protocol, in float64."""

    def exact(job: Tensors, random: Random, count: int) -> Prompts:
        return having(drawing.task, under("task", job)).prompts(random, job.get("frame"), count)

    def update(job: Tensors, state: Tensors, batch: Prompts, t: Tensor) -> tuple[Tensors, Tensors]:
        found = {"G": batch.problem.G, "b": batch.problem.b, "w_star": batch.w_star}
        found |= {"root": batch.problem.root, "judge": batch.judge}
        found |= {} if batch.problem.dual is None else {"dual": batch.problem.dual}
        return {}, {name: x.unsqueeze(0) for name, x in found.items()}

    step = Step(exact, update, count, False, torch.float64)
    found = program(step, drawing.job, {}, drawing.key, 1, as_written=as_written)(0, 1)
    drawn = {name: x[0, 0] for name, x in found.items()}
    problem = Quadratic(drawn["G"][..., :count], drawn["b"][..., :count], drawn["root"], drawn.get("dual"))
    return Prompts(problem, drawn["w_star"][..., :count], drawn["judge"])


def _named(group: str, tensors: Tensors) -> Tensors:
    """Each x as `group.x`."""
    return {f"{group}.{name}": value for name, value in tensors.items()}


def _over(x: Tensor) -> Tensor:
    """The sum over what a member has: rates jobs."""
    return x.reshape(*x.shape[:2], -1).sum(-1)


def _like(member: Tensor, update: Tensor) -> Tensor:
    """A value per member, shaped to broadcast with an update."""
    return member.view(*member.shape, *[1] * (update.ndim - 2))
