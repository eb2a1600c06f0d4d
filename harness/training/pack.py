"""A pack: jobs of one structure that run as one program; what a worker is sent to run it; where its prompts come from.

Axes: `jobs` are the jobs of the pack, `trials` what a protocol tunes over, `prompts` come last.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from lfombench.tasks import Prompts, Random, Task

from ..compiler.select import Engine
from ..compiler.step import in_group
from ..compiler.streams import Streams, keys
from ..errors import UserError
from ..spec.fingerprint import code
from ..spec.job import Job
from ..spec.labels import digest, nested, spec_of
from ..spec.protocol import Protocol
from .checkpoint import Checkpoint

T = TypeVar("T")
CHECKPOINT_EVERY = 15.0  # seconds


@dataclass(frozen=True)
class Cost:
    """A prediction for a pack: seconds, with the bounds of an 80 % interval, and bytes at the peak of memory."""

    seconds: float
    low: float
    high: float
    memory: float
    measured: bool  # whether the store's own history went into it


@dataclass(frozen=True)
class Weights:
    """What training left of a job: parameters by name, the floats that were chosen, and why it diverged, if it did."""

    params: Mapping[str, Tensor]
    chosen: Mapping[str, float]
    diverged: str | None = None


@dataclass(frozen=True)
class Pack:
    """Jobs of one structure, and the further tasks that they are tested on."""

    jobs: tuple[Job, ...]
    tests: tuple[Task, ...] = ()
    trained: bool = False  # the jobs' own results stand: they are tested on `tests` alone, from their weights

    @property
    def id(self) -> str:
        """A digest of the jobs and tests."""
        tests = [spec_of(task) for task in self.tests]
        return digest([[job.id for job in self.jobs], tests, *(["trained"] if self.trained else [])])

    @property
    def first(self) -> Job:
        """A job that stands for the structure of all."""
        return self.jobs[0]

    @property
    def program(self) -> Hashable:
        """Equal for packs whose steps are the same program. A class that is defined anew makes another program."""
        return type(self.first.task), type(self.first.solver), self.first.structure

    def identity(self, *made_of: Any, test: Task | None = None) -> str | None:
        """What a step of the pack is known by in all processes: its code, its structure, and what else it is made of.
        None where a class is made by a function or a script, which may make another one of its name.
        """
        parts = [one for part in (self.first.task, self.first.solver, test) if part for one in nested(part)]
        bases = [base for part in parts for base in type(part).__mro__]
        if any("<" in base.__qualname__ or base.__module__ == "__main__" for base in bases):
            return None
        return digest([code(self.first.case, test), self.first.structure, *made_of])

    @property
    def members(self) -> int:
        """Number of models that are trained: a job has one for each of its trials."""
        return len(self.jobs) * len(self.first.trials)


@dataclass(frozen=True)
class WorkOrder:
    """A pack as a worker is sent it, with what it stands on and how it is to be run."""

    pack: Pack
    weights: tuple[Weights, ...] = ()  # of each job, where the pack is trained already
    experts: tuple[tuple[Weights, ...], ...] = ()  # of each job's experts, where its solver is a mixture
    resume: Checkpoint | None = None  # where training goes on
    engine: Engine = "auto"  # how its steps run; an audit compares with "eager"
    stride: int = 500  # training steps of one call, after which a checkpoint can be made
    checkpoint_every: float = CHECKPOINT_EVERY  # seconds at least from one checkpoint to the next
    profiled: bool = False  # the parts of its training step are measured as well
    expected: Cost | None = None  # as planned, for the record

    @property
    def jobs(self) -> tuple[Job, ...]:
        """The jobs of the pack."""
        return self.pack.jobs

    @property
    def first(self) -> Job:
        """A job that stands for the structure of all."""
        return self.pack.first

    def for_jobs(self, jobs: Sequence[Job]) -> WorkOrder:
        """The same order for other jobs of the structure."""
        return replace(self, pack=replace(self.pack, jobs=tuple(jobs)))


def floats(parts: Sequence[Any], dtype: torch.dtype, device: torch.device) -> dict[str, Tensor]:
    """The float fields of tasks or solvers, with an entry for each part: `parts 1 1`, or `parts k` for k floats."""
    tensors = {}
    for f in fields(parts[0]):
        values = [getattr(part, f.name) for part in parts]
        if isinstance(values[0], float):
            tensors[f.name] = torch.tensor(values, dtype=dtype, device=device)[:, None, None]
        elif isinstance(values[0], tuple) and values[0] and isinstance(values[0][0], float):
            tensors[f.name] = torch.tensor(values, dtype=dtype, device=device)
    return tensors


def with_floats(part: T, values: Mapping[str, Tensor]) -> T:
    """A task or solver with tensors in place of its floats."""
    packed = copy(part)
    for name, value in values.items():
        object.__setattr__(packed, name, value)
    return packed


def stack(parts: Sequence[T], dtype: torch.dtype, device: torch.device) -> T:
    """One task or solver that holds the floats of several."""
    return with_floats(parts[0], floats(parts, dtype, device))


@dataclass(frozen=True)
class Drawing:
    """How a pack draws prompts: the task's structure, each job's floats and frame, and the streams' keys."""

    task: Task
    job: dict[str, Tensor]
    key: Tensor
    protocol: Protocol
    tokens: bool

    def draw(self, job: Mapping[str, Tensor], random: Random, prompts: int, withheld: int = 0) -> Prompts:
        """Prompts as the protocol says: examples or statistics, with a sampled or an exact query.

        Tokens hold examples and a query, so token models get those whatever the protocol; and where no w* gives the
        target, the query is sampled.
        """
        task, frame = with_floats(self.task, in_group("task", job)), job.get("frame")
        if self.tokens:
            return task.examples(random, frame, prompts).with_tokens()
        if self.protocol.draw != "examples" and self.protocol.query == "exact" and not withheld:
            return task.prompts(random, frame, prompts)
        examples = task.examples(random, frame, prompts).withhold(withheld)
        return examples.prompts(sampled_query=self.protocol.query == "sampled")

    def batch(self, job: Mapping[str, Tensor], random: Random, prompts: int) -> Prompts:
        """A training batch: as `draw`, or each example of a prompt left out in turn as its query, `n 1 jobs ...`."""
        if self.protocol.labels == "query":
            return self.draw(job, random, prompts)
        examples = with_floats(self.task, in_group("task", job)).examples(random, job.get("frame"), prompts)
        return examples.leave_one_out(tokens=self.tokens)


def drawing(pack: Pack, tasks: Sequence[Task], role: str, dtype: torch.dtype, device: torch.device) -> Drawing:
    """Where the pack's jobs get prompts for a role from: one stream per task and seed, whatever the solver.

    The frame (a rotation, say) depends only on d and the seed: a shifted test task turns with its training task.
    """
    streams, frames = [], []
    specs = {id(task): spec_of(task) for task in {id(task): task for task in tasks}.values()}
    for task, job in zip(tasks, pack.jobs, strict=True):
        data = job.seed if job.protocol.data_seed is None else f"data {job.protocol.data_seed}"
        streams.append((role, specs[id(task)], data))
        frames.append(("frame", task.d, job.seed))
    values = {f"task.{name}": value for name, value in floats(tasks, dtype, device).items()}
    frame = stack(tasks, torch.float64, device).frame(Streams(keys(frames, device), torch.float64))
    if frame is not None:
        values["frame"] = frame.to(dtype).contiguous()
    return Drawing(tasks[0], values, keys(streams, device), pack.first.protocol, pack.first.solver.on_tokens)


def expert_params(order: WorkOrder, device: torch.device) -> dict[str, Tensor]:
    """Parameters of the experts of all jobs, `jobs ...`, each named by the number of its expert: 0.A, 1.A.

    UserError where an expert diverged, or its weights are lost.
    """
    for job, experts in zip(order.jobs, order.experts, strict=False):
        for expert, weights in zip(job.experts, experts, strict=True):
            if weights.diverged:
                raise UserError(f"an expert diverged, job {expert.id}: {weights.diverged}")
            if not weights.params and expert.solver.trains:
                raise UserError(f"the weights of an expert are lost, job {expert.id}; run its own sweep again")
    return {
        f"{e}.{name}": torch.stack([experts[e].params[name] for experts in order.experts]).to(device)
        for e, weights in enumerate(order.experts[0] if order.experts else ())
        for name in weights.params
    }


def trial_values(pack: Pack, name: str, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "trials jobs"]:
    """A float of the protocol or solver in every trial of every job."""
    values = [[trial.get(name, getattr(job.protocol, name, None)) for trial in job.trials] for job in pack.jobs]
    return torch.tensor(values, dtype=dtype, device=device).T.contiguous()
