"""Train and test a pack as one program.

Axes: `trials` are the learning rates and other floats that a protocol tunes over, `jobs` the jobs of the pack,
`prompts` come last. Parameters are `trials jobs ...` and prompts `jobs ...`, so that all trials of a job meet the same.
No member of the pack can touch another: every operation is elementwise over trials and jobs.

What happens in a step is written here, once, in tensors; how it is run (`program.py`) changes no number beyond
rounding.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from lfombench.solvers import Solver
from lfombench.tasks import Prompts, Task

from ..compiler.select import program
from ..compiler.step import Step, Tensors, named, under
from ..compiler.streams import Streams, keys
from ..spans import span
from ..spec.job import Job, tunable
from ..spec.protocol import Protocol
from . import adam
from .best import Curve, Kept, trial_table
from .checkpoint import PER_JOB, Checkpoint, Stage
from .closed_form import Fit, fit
from .evaluate import errors, expect, last, test, validate
from .pack import Pack, floats, having, of_experts, of_trials, prompts
from .warm import closed_form

T = TypeVar("T")
Tested = Iterator[tuple[Task | None, Tensor]]  # squared errors, jobs steps prompts

CURVE_POINTS = 100  # of a training curve, about
STEPS = 500  # training steps between two looks at what came of them


@dataclass
class Trained:
    """What training leaves of a pack. The lists have an entry per job."""

    params: Tensors  # jobs ...
    jobs: list[Job]  # with the floats that were chosen
    chosen: list[dict[str, float]]  # of what was tried
    diverged: list[str | None]  # why, where a job did
    steps: list[int]  # that it trained
    budget: list[int]  # prompts that all its trials met in training
    engine: str | None = None  # how it ran
    curve_steps: list[int] = field(default_factory=list)
    losses: Float[Tensor, "points jobs"] = field(default_factory=lambda: torch.empty(0, 0))
    gradient_norms: Float[Tensor, "points jobs"] = field(default_factory=lambda: torch.empty(0, 0))
    excess: Float[Tensor, "jobs depth"] | None = None  # of the mean error: what fitting to finitely many prompts leaves


def run(pack: Pack, device: torch.device) -> tuple[Trained, Tested]:
    """Train a pack, then test it on each job's own task (None) and on the pack's further tasks, in that order.

    One that is trained already is tested on those alone.
    """
    return finished(stages(pack, device))


def stages(pack: Pack, device: torch.device) -> Generator[Stage, None, tuple[Trained, Tested]]:
    """The same, which stops at every moment at which a checkpoint can be made."""
    if pack.trained:
        trained = restored(pack, device)
    elif pack.first.solver.trains:
        trained = yield from train(pack, device)
    else:
        trained = given(pack, device)
    tests = pack.tests if pack.trained else (None, *pack.tests)
    settled = replace(pack, jobs=tuple(trained.jobs))
    return trained, ((task, test(settled, trained.params, task, device)) for task in tests)


def finished(stages: Generator[Any, None, T]) -> T:
    """What comes of it without a stop."""
    while True:
        try:
            next(stages)
        except StopIteration as end:
            found: T = end.value
            return found


def restored(pack: Pack, device: torch.device) -> Trained:
    """What training left, from what was kept of it."""
    count, settled = len(pack.jobs), pack.settled
    params = {name: torch.stack([one.params[name] for one in settled]).to(device) for name in settled[0].params}
    jobs = [Job(job.case.having(one.chosen), job.seed) for job, one in zip(pack.jobs, settled, strict=True)]
    chosen, diverged = [dict(one.chosen) for one in settled], [one.diverged for one in settled]
    return Trained(params, jobs, chosen, diverged, [0] * count, [0] * count)


def given(pack: Pack, device: torch.device) -> Trained:
    """What needs no training: a closed form's parameters; floats by validation loss where the protocol tries some."""
    params, met, excess = fit(pack, device) if pack.first.solver.fits else Fit({}, 0, None)
    if pack.experts:
        params = {name: p[0] for name, p in initial(pack, device).items()} | params
    count, trials = len(pack.jobs), len(pack.first.trials)
    best = [0] * count
    if trials > 1:
        best = validate(pack, trial_table(pack), {}, device).nan_to_num(nan=math.inf).argmin(0).tolist()
    jobs = [job.tried(k) for job, k in zip(pack.jobs, best, strict=True)]
    chosen = [job.trials[k] for job, k in zip(pack.jobs, best, strict=True)]
    return Trained(params, jobs, chosen, [None] * count, [0] * count, [met] * count, excess=excess)


def train(pack: Pack, device: torch.device) -> Generator[Stage, None, Trained]:
    """Adam on every trial of every job at once, cycle by cycle; after each the validation prompts say which go on."""
    protocol, count, trials = pack.first.protocol, len(pack.jobs), len(pack.first.trials)
    step, job, state, key = training(pack, device)
    still = under("still", job)
    at = _At(pack, state)
    if len(at.going) < count:
        narrowed = _of({**job, "key": key}, at.going, device)
        key, job = narrowed.pop("key"), narrowed
    blind = trials == len(protocol.looks) == 1  # nothing to choose
    for look in [look for look in protocol.looks if look > at.begin and at.going]:
        advance = program(step, job, at.state, key, protocol.steps, as_written=pack.as_written)
        at.engine = advance.name
        every = max(1, (look - at.begin) * len(protocol.looks) // CURVE_POINTS)
        for first in range(at.first, look, STEPS):
            at.first = first
            yield at.checkpoint
            with span("train"):
                records = advance(first, min(STEPS, look - first))
            points = [t for t in range(first + 1, min(first + STEPS, look) + 1) if t % every == 0 or t == 1]
            at.curve.add(points, first, records, at.tried, at.going)
        part = replace(pack, jobs=tuple(pack.jobs[j] for j in at.going))
        params, alive = under("p", at.state), at.state["alive"]
        whole = params | {name: p.expand(len(at.tried), *p.shape) for name, p in under("still", job).items()}
        loss = torch.zeros_like(at.state["rate"]) if blind else validate(part, at.tried, whole, device)
        loss = torch.where(alive, loss.nan_to_num(nan=math.inf), math.inf)
        for j in at.going:
            at.budget[j] += (look - at.begin) * protocol.batch * len(at.tried)
        best = loss.argmin(0).tolist()
        reasons = [_reason(at.state, k, i) for i, k in enumerate(best)]
        gains = at.kept.offer(at.going, best, at.tried, loss, params, reasons, look)
        least = [-math.inf if p is None else p for p in (one.protocol.plateau for one in part.jobs)]
        stay = [i for i, gain in enumerate(gains) if gain >= least[i]]
        if not stay or look == protocol.looks[-1]:
            break
        goes_on = -(-len(at.tried) // protocol.halving) if protocol.halving else len(at.tried)
        order = loss.argsort(dim=0, stable=True)[:goes_on].sort(0).values[:, stay]  # trials jobs
        at.tried = [[at.tried[k][i] for k, i in zip(row, stay, strict=True)] for row in order.tolist()]
        columns = torch.tensor(stay, device=device)
        at.state = {name: x[order, columns].contiguous() for name, x in at.state.items()}
        job, key = _of(job, stay, device), key[columns].contiguous()
        at.going, at.begin, at.first = [at.going[i] for i in stay], look, look
    kept = at.kept
    losses, norms = at.curve.of(kept.trial)
    return Trained(
        kept.params() | still,
        [one.tried(k) for one, k in zip(pack.jobs, kept.trial, strict=True)],
        [one.trials[k] for one, k in zip(pack.jobs, kept.trial, strict=True)],
        kept.reason,
        kept.until,
        at.budget,
        at.engine,
        at.curve.points,
        losses,
        norms,
    )


def _of(job: Tensors, which: Sequence[int], device: torch.device) -> Tensors:
    """What a step needs of these jobs."""
    columns = torch.tensor(which, dtype=torch.int64, device=device)
    return {name: x[columns].contiguous() for name, x in job.items()}


class _At:
    """How far the training of a pack is; from its beginning, or from a checkpoint."""

    def __init__(self, pack: Pack, state: Tensors) -> None:
        count = len(pack.jobs)
        self.pack, self.state = pack, state
        self.going = list(range(count))  # jobs that still train,
        self.tried = trial_table(pack)  # and which of its trials each still has: trials jobs
        self.kept = Kept.nothing(count)
        self.curve = Curve(len(pack.first.trials), count)
        self.budget = [0] * count
        self.begin = self.first = 0
        self.engine: str | None = None
        if pack.resume:
            self._resume(pack.resume, next(iter(state.values())).device)

    def _resume(self, found: Checkpoint, device: torch.device) -> None:
        tensors = {name: x.to(device, copy=True) for name, x in found.tensors.items()}  # training changes them
        self.state, best, curve = (under(kind, tensors) for kind in PER_JOB)
        self.going, self.tried, self.begin, self.first = list(found.going), found.tried, found.begin, found.first
        each = [{name: x[j].clone() for name, x in best.items()} for j in range(len(found.jobs))]
        self.kept = Kept([*found.loss], [*found.trial], [*found.until], [*found.reason], each)
        self.budget = [*found.budget]
        self.curve.points = [*found.points]
        self.engine = found.engine
        self.curve.parts = [(curve["loss"].cpu(), curve["norm"].cpu())] if curve else []

    def checkpoint(self) -> Checkpoint:
        """Everything, in memory of its own."""
        tensors = {f"state.{name}": x.cpu().clone() for name, x in self.state.items()}
        tensors |= {f"best.{name}": x.cpu() for name, x in self.kept.params().items()}
        if self.curve.parts:
            tensors |= {f"curve.{name}": x for name, x in zip(("loss", "norm"), self.curve.whole(), strict=True)}
        ids, kept = [job.id for job in self.pack.jobs], self.kept
        return Checkpoint(
            jobs=ids,
            begin=self.begin,
            first=self.first,
            going=[*self.going],
            tried=self.tried,
            loss=[*kept.loss],
            trial=[*kept.trial],
            until=[*kept.until],
            reason=[*kept.reason],
            budget=[*self.budget],
            points=[*self.curve.points],
            engine=self.engine,
            tensors=tensors,
        )


def _reason(state: Tensors, k: int, i: int) -> str | None:
    """Why a member diverged, if it did."""
    if state["alive"][k, i]:
        return None
    return f"training loss was not finite at step {state['died'][k, i]}, learning rate {state['rate'][k, i]:g}"


def training(pack: Pack, device: torch.device) -> tuple[Step, Tensors, Tensors, Tensor]:
    """A training step of every member; what it needs of each job; its state; the prompts' keys."""
    protocol, solver = pack.first.protocol, pack.first.solver
    compute = getattr(torch, protocol.dtype)  # in the layers
    dtype = torch.float64 if protocol.dtype == "float64" else torch.float32  # of parameters and Adam
    drawing = prompts(pack, [job.task for job in pack.jobs], "train", compute, device)
    job = drawing.job | named("solver", floats([job.solver for job in pack.jobs], compute, device))
    every = {name: p.to(dtype) for name, p in initial(pack, device).items()}
    params = {name: p for name, p in every.items() if solver.moving(name)}
    job |= named("still", {name: p[0].contiguous() for name, p in every.items() if name not in params})
    numbers = {"rate": of_trials(pack, "learning_rate", dtype, device)}
    numbers |= {name: of_trials(pack, name, torch.float64, device) for name in ("beta1", "beta2")}
    numbers |= {"clip": of_trials(pack, "clip", dtype, device)} if protocol.clip is not None else {}
    state = adam.start(params, numbers)
    names = [name for name in tunable(solver) if name in pack.first.trials[0]]
    state |= {f"tried.{name}": of_trials(pack, name, compute, device)[..., None, None] for name in names}
    first = under("solver", job) | {name: x[0] for name, x in under("tried", state).items()}
    expect(having(solver, first), {name: p[0].to(compute) for name, p in every.items()}, drawing)

    def update(job: Tensors, state: Tensors, batch: Prompts, t: Tensor) -> tuple[Tensors, Tensors]:
        one = having(solver, under("solver", job) | under("tried", state))
        loss, gradients = loss_and_gradient(one, under("p", state), under("still", job), batch, protocol)
        return adam.update(protocol, state, loss, gradients, t)

    step = Step(drawing.batch, update, protocol.batch, protocol.renew, compute, ("train", pack.program))
    return step, job, state, drawing.key


def loss_and_gradient(
    solver: Solver, params: Tensors, still: Tensors, batch: Prompts, protocol: Protocol
) -> tuple[Tensor, Tensors]:
    """Mean squared error of the last iterate over a batch and its gradient, for every member: trials jobs.

    still: parameters that do not move, `jobs ...`.
    """

    def total(params: Tensors) -> tuple[Tensor, Tensor]:
        cast = {name: p.to(batch.w_star.dtype) for name, p in (still | params).items()}
        error = last(errors(solver, cast, batch)).to(next(iter(params.values())).dtype)
        error = error if protocol.labels == "query" else error.mean(0)  # over what is left out
        loss = error.sum(-1) / protocol.batch
        return loss.sum(), loss

    gradients, loss = torch.func.grad(total, has_aux=True)(params)
    return loss, gradients


def initial(pack: Pack, device: torch.device) -> Tensors:
    """Parameters of every member, trials jobs ...: a stream per task, solver and seed, so that a job starts
    alike under every protocol and in all its trials.
    """
    words = [("init", job.case.parts["task"], job.case.parts["solver"], job.seed) for job in pack.jobs]
    random = Streams(keys(words, device), torch.float32)
    scales = of_trials(pack, "init_scale", torch.float32, device)

    def normal(*shape: int) -> Tensor:
        return random.normal(*shape) * scales.view(*scales.shape, *[1] * len(shape))

    solver, trials = pack.first.solver, len(pack.first.trials)
    params = dict(solver.init(pack.first.task.d, pack.first.task.n, normal))
    if not params and solver.trains:
        raise ValueError(f"{type(solver).__name__} is a learned method: its init must return parameters")
    for name, p in params.items():
        if p.ndim < 2 or p.shape[:2] != (trials, len(pack.jobs)):
            raise ValueError(
                f"{type(solver).__name__}.init gave {name} of shape {tuple(p.shape)}, "
                f"needs ({trials}, {len(pack.jobs)}, ...): make it with normal(...), which puts the jobs in front"
            )
    params |= {name: p.expand(trials, *p.shape) for name, p in of_experts(pack, device).items()}
    start = closed_form(pack, device) or {}
    return {name: start.get(name, p).to(p.dtype).expand_as(p).clone() for name, p in params.items()}
