"""Train a pack as one program, and test it.

Axes: `trials` are the learning rates and other floats that a protocol tunes over, `jobs` the jobs of the pack,
`prompts` come last. Parameters are `trials jobs ...` and prompts `jobs ...`, so that all trials of a job meet the same.
No member of the pack can touch another: every operation is elementwise over trials and jobs.

What happens in a step is written in `training_step.py`, in tensors; how it is run changes no number beyond rounding.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from lfombench.tasks import Task

from ..compiler.select import program
from ..compiler.step import Tensors, in_group
from ..spans import span
from ..spec.job import Job
from .best import Best, Curve, trial_table
from .checkpoint import JOB_AXIS, Checkpoint, Stage
from .closed_form import Fit, fit
from .evaluate import test, validate
from .pack import WorkOrder
from .training_step import initial, training

T = TypeVar("T")
Tests = Iterator[tuple[Task | None, Tensor]]  # squared errors, jobs steps prompts

CURVE_POINTS = 100  # of a training curve, about


@dataclass
class Trained:
    """What training leaves of a pack. The lists have an entry per job."""

    params: Tensors  # jobs ...
    jobs: list[Job]  # with the floats that were chosen
    chosen: list[dict[str, float]]  # the values of the chosen trial
    diverged: list[str | None]  # the reason, where a job did
    steps: list[int]  # training steps behind the parameters
    budget: list[int]  # prompts that all its trials met in training
    engine: str | None = None  # how steps ran
    curve_steps: list[int] = field(default_factory=list)
    losses: Float[Tensor, "points jobs"] = field(default_factory=lambda: torch.empty(0, 0))
    gradient_norms: Float[Tensor, "points jobs"] = field(default_factory=lambda: torch.empty(0, 0))
    excess: Float[Tensor, "jobs depth"] | None = None  # of the mean error, from fitting to finitely many prompts


def run(order: WorkOrder, device: torch.device) -> tuple[Trained, Tests]:
    """Train a pack, then test it on each job's own task (None) and on the pack's further tasks, in that order.

    A pack that is trained already is tested on the further tasks alone.
    """
    return result(stages(order, device))


def stages(order: WorkOrder, device: torch.device) -> Generator[Stage, None, tuple[Trained, Tests]]:
    """`run`, which stops at every moment at which a checkpoint can be made."""
    pack = order.pack
    if pack.trained:
        trained = restored(order, device)
    elif pack.first.solver.trains:
        trained = yield from train(order, device)
    else:
        trained = untrained(order, device)
    tests = pack.tests if pack.trained else (None, *pack.tests)
    tuned = order.for_jobs(trained.jobs)
    return trained, ((task, test(tuned, trained.params, task, device)) for task in tests)


def result(stages: Generator[Any, None, T]) -> T:
    """Run a generator of stages to its end; what it returns."""
    while True:
        try:
            next(stages)
        except StopIteration as end:
            value: T = end.value
            return value


def restored(order: WorkOrder, device: torch.device) -> Trained:
    """What training left of a pack that is trained already, from its weights."""
    count, weights = len(order.jobs), order.weights
    params = {name: torch.stack([each.params[name] for each in weights]).to(device) for name in weights[0].params}
    jobs = [Job(job.case.with_floats(each.chosen), job.seed) for job, each in zip(order.jobs, weights, strict=True)]
    chosen, diverged = [dict(each.chosen) for each in weights], [each.diverged for each in weights]
    return Trained(params, jobs, chosen, diverged, [0] * count, [0] * count)


def untrained(order: WorkOrder, device: torch.device) -> Trained:
    """A pack that needs no training: closed forms, and floats by validation loss where the protocol tries some."""
    params, prompts, excess = fit(order, device) if order.first.solver.fits else Fit({}, 0, None)
    if order.experts:
        params = {name: p[0] for name, p in initial(order, device).items()} | params
    count, trials = len(order.jobs), len(order.first.trials)
    best = [0] * count
    if trials > 1:
        losses = validate(order, trial_table(order.pack), {}, device)
        best = losses.nan_to_num(nan=math.inf).argmin(0).tolist()
    jobs = [job.tried(k) for job, k in zip(order.jobs, best, strict=True)]
    chosen = [job.trials[k] for job, k in zip(order.jobs, best, strict=True)]
    return Trained(params, jobs, chosen, [None] * count, [0] * count, [prompts] * count, excess=excess)


def train(order: WorkOrder, device: torch.device) -> Generator[Stage, None, Trained]:
    """Adam on every trial of every job at once, cycle by cycle; after each cycle a validation round says which go on:
    successive halving of trials, and jobs until their plateau.
    """
    training = _Training(order, device)
    ahead = [end for end in order.first.protocol.rounds if end > training.begin]
    for end in ahead if training.live else []:  # none: a part of a pack, whose jobs had all reached their plateau
        yield from training.advance(end)
        if not training.select(training.score(), end):
            break
    return training.trained()


class _Training:
    """The training of a pack as it goes on: from its beginning, or from the order's checkpoint."""

    def __init__(self, order: WorkOrder, device: torch.device) -> None:
        count = len(order.jobs)
        self.order, self.device = order, device
        self.protocol = order.first.protocol
        self.step, self.job, self.state, self.key = training(order, device)
        self.frozen = in_group("frozen", self.job)  # parameters that are not trained, jobs ...
        self.live = list(range(count))  # positions of the jobs that still train
        self.trials = trial_table(order.pack)  # which of its trials each of them still has: trials live
        self.best = Best.none_yet(count)
        self.curve = Curve(len(order.first.trials), count)
        self.budget = [0] * count
        self.begin = self.first = 0  # the last validation round, the next step
        self.engine: str | None = None
        if order.resume:
            self._resume(order.resume)

    def advance(self, end: int) -> Iterator[Stage]:
        """Train all live members until the next validation round; stops where a checkpoint can be made."""
        advance = program(self.step, self.job, self.state, self.key, self.protocol.steps, self.order.engine)
        self.engine = advance.name
        every = max(1, (end - self.begin) * len(self.protocol.rounds) // CURVE_POINTS)
        stride = self.order.stride
        for first in range(self.first, end, stride):
            self.first = first
            yield self.checkpoint
            last = min(first + stride, end)
            with span("train"):
                records = advance(first, last - first)
            points = [t for t in range(first + 1, last + 1) if t % every == 0 or t == 1]
            self.curve.add(points, first, records, self.trials, self.live)
        self.first = end

    def score(self) -> Float[Tensor, "trials live"]:
        """The validation loss of every live member; inf where it diverged. 0 where there is nothing to choose."""
        alive = self.state["alive"]
        if len(self.order.first.trials) == len(self.protocol.rounds) == 1:
            loss = torch.zeros_like(self.state["rate"])
        else:
            frozen = {name: p.expand(len(self.trials), *p.shape) for name, p in in_group("frozen", self.job).items()}
            live = self.order.for_jobs([self.order.jobs[j] for j in self.live])
            loss = validate(live, self.trials, in_group("p", self.state) | frozen, self.device)
        return torch.where(alive, loss.nan_to_num(nan=math.inf), math.inf)

    def select(self, loss: Float[Tensor, "trials live"], end: int) -> bool:
        """Keep the best so far, and drop the trials and jobs that do not go on; False where none does."""
        for j in self.live:
            self.budget[j] += (end - self.begin) * self.protocol.batch * len(self.trials)
        winners = loss.argmin(0).tolist()
        reasons = self._reasons(winners)
        gains = self.best.update(self.live, winners, self.trials, loss, in_group("p", self.state), reasons, end)
        plateaus = [self.order.jobs[j].protocol.plateau for j in self.live]
        least = [-math.inf if plateau is None else plateau for plateau in plateaus]
        stay = [i for i, gain in enumerate(gains) if gain >= least[i]]
        self.begin = end
        if not stay or end == self.protocol.rounds[-1]:
            return False
        count, halving = len(self.trials), self.protocol.halving
        survivors = -(-count // halving) if halving else count
        rows = loss.argsort(dim=0, stable=True)[:survivors].sort(0).values[:, stay]  # trials live
        self.trials = [[self.trials[k][i] for k, i in zip(row, stay, strict=True)] for row in rows.tolist()]
        columns = torch.tensor(stay, device=self.device)
        self.state = {name: x[rows, columns].contiguous() for name, x in self.state.items()}
        self._narrow(stay)
        self.live = [self.live[i] for i in stay]
        return True

    def trained(self) -> Trained:
        """The best of every job."""
        best, jobs = self.best, self.order.jobs
        losses, norms = self.curve.of_trials(best.trial)
        return Trained(
            best.stacked() | self.frozen,
            [job.tried(k) for job, k in zip(jobs, best.trial, strict=True)],
            [job.trials[k] for job, k in zip(jobs, best.trial, strict=True)],
            best.reason,
            best.steps,
            self.budget,
            self.engine,
            self.curve.points,
            losses,
            norms,
        )

    def checkpoint(self) -> Checkpoint:
        """A copy of everything that is needed to go on."""
        tensors = {f"state.{name}": x.cpu().clone() for name, x in self.state.items()}
        tensors |= {f"best.{name}": x.cpu() for name, x in self.best.stacked().items()}
        if self.curve.parts:
            tensors |= {f"curve.{name}": x for name, x in zip(("loss", "norm"), self.curve.joined(), strict=True)}
        return Checkpoint(
            jobs=[job.id for job in self.order.jobs],
            begin=self.begin,
            first=self.first,
            live=[*self.live],
            trials=self.trials,
            loss=[*self.best.loss],
            trial=[*self.best.trial],
            steps=[*self.best.steps],
            reason=[*self.best.reason],
            budget=[*self.budget],
            points=[*self.curve.points],
            engine=self.engine,
            tensors=tensors,
        )

    def _resume(self, saved: Checkpoint) -> None:
        tensors = {name: x.to(self.device, copy=True) for name, x in saved.tensors.items()}  # training changes them
        self.state, best, curve = (in_group(group, tensors) for group in JOB_AXIS)
        self.live, self.trials, self.begin, self.first = list(saved.live), saved.trials, saved.begin, saved.first
        params = [{name: x[j].clone() for name, x in best.items()} for j in range(len(saved.jobs))]
        self.best = Best([*saved.loss], [*saved.trial], [*saved.steps], [*saved.reason], params)
        self.budget = [*saved.budget]
        self.curve.points = [*saved.points]
        self.engine = saved.engine
        self.curve.parts = [(curve["loss"].cpu(), curve["norm"].cpu())] if curve else []
        if len(self.live) < len(saved.jobs):
            self._narrow(self.live)

    def _narrow(self, columns: Sequence[int]) -> None:
        """Leave the step just these of its jobs."""
        indices = torch.tensor(columns, dtype=torch.int64, device=self.device)
        self.job = {name: x[indices].contiguous() for name, x in self.job.items()}
        self.key = self.key[indices].contiguous()

    def _reasons(self, winners: Sequence[int]) -> list[str | None]:
        """Why each live job's winner diverged, if it did."""
        alive, died, rate = (self.state[name].cpu() for name in ("alive", "died", "rate"))
        return [
            None
            if alive[row, column]
            else f"training loss was not finite at step {died[row, column]}, learning rate {rate[row, column]:g}"
            for column, row in enumerate(winners)
        ]
