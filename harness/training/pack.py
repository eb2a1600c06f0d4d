"""A pack: jobs of one structure, their floats stacked into tensors, and the prompts they share."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from lfombench.tasks import Prompts, Random, Task

from ..compiler.step import under
from ..compiler.streams import Streams, keys
from ..errors import UserError
from ..spec.job import Job
from ..spec.labels import digest, spec_of
from ..spec.protocol import Protocol
from .checkpoint import Checkpoint

T = TypeVar("T")


@dataclass(frozen=True)
class Cost:
    """A prediction: seconds with the bounds of 80 % of packs, and bytes at the peak."""

    seconds: float
    low: float
    high: float
    memory: float
    measured: bool  # whether the store's own history went into it


@dataclass(frozen=True)
class Settled:
    """What training left of a job: parameters by name, floats that were chosen, and why it diverged, if it did."""

    params: Mapping[str, Tensor]
    chosen: Mapping[str, float]
    diverged: str | None = None


@dataclass(frozen=True)
class Pack:
    """Jobs of one structure, and the tasks they are tested on besides their own."""

    jobs: tuple[Job, ...]
    tests: tuple[Task, ...] = ()
    expected: Cost | None = None  # as planned
    why: tuple[tuple[str, int], ...] = ()  # it is run, with how many jobs for each reason
    trained: bool = False  # jobs whose own results stand: they are tested on the tests alone,
    settled: tuple[Settled, ...] = ()  # from these
    experts: tuple[tuple[Settled, ...], ...] = ()  # of each job, trained; where its solver is a mixture
    waits: bool = False  # for experts that are not trained yet
    resume: Checkpoint | None = None  # where training goes on
    as_written: bool = False  # never compiled: what an audit compares with
    profiled: bool = False  # measures the parts of its training step too

    @property
    def id(self) -> str:
        """Depends on the jobs and tests alone."""
        tests = [spec_of(task) for task in self.tests]
        return digest([[job.id for job in self.jobs], tests, *(["trained"] if self.trained else [])])

    @property
    def first(self) -> Job:
        """A job that stands for the structure of all."""
        return self.jobs[0]

    @property
    def program(self) -> Hashable:
        """What its steps are: those of packs of one program are the same. A class that is defined anew is another."""
        return type(self.first.task), type(self.first.solver), self.first.structure

    @property
    def members(self) -> int:
        """How many models it trains or tries: a job has one for each of its trials."""
        return len(self.jobs) * len(self.first.trials)


def floats(parts: Sequence[Any], dtype: torch.dtype, device: torch.device) -> dict[str, Tensor]:
    """The float fields of tasks or solvers, an entry per part: `parts 1 1`, or `parts k` for k floats."""
    found = {}
    for f in fields(parts[0]):
        values = [getattr(part, f.name) for part in parts]
        if isinstance(values[0], float):
            found[f.name] = torch.tensor(values, dtype=dtype, device=device)[:, None, None]
        elif isinstance(values[0], tuple) and values[0] and isinstance(values[0][0], float):
            found[f.name] = torch.tensor(values, dtype=dtype, device=device)
    return found


def having(part: T, values: Mapping[str, Tensor]) -> T:
    """The part with tensors in place of its floats."""
    packed = copy(part)
    for name, value in values.items():
        object.__setattr__(packed, name, value)
    return packed


def stack(parts: Sequence[T], dtype: torch.dtype, device: torch.device) -> T:
    """One part that holds the floats of all."""
    return having(parts[0], floats(parts, dtype, device))


def prompts(pack: Pack, tasks: Sequence[Task], role: str, dtype: torch.dtype, device: torch.device) -> Drawing:
    """Where the pack's jobs get prompts for a role from: one stream per task and seed, whatever the solver.

    The frame (a rotation, say) depends only on d and the seed: a shifted test task turns with its training task.
    """
    words, turns = [], []
    specs = {id(task): spec_of(task) for task in {id(task): task for task in tasks}.values()}
    for task, job in zip(tasks, pack.jobs, strict=True):
        data = job.seed if job.protocol.data_seed is None else f"data {job.protocol.data_seed}"
        words.append((role, specs[id(task)], data))
        turns.append(("frame", task.d, job.seed))
    given = {f"task.{name}": value for name, value in floats(tasks, dtype, device).items()}
    frame = stack(tasks, torch.float64, device).frame(Streams(keys(turns, device), torch.float64))
    if frame is not None:
        given["frame"] = frame.to(dtype).contiguous()
    return Drawing(tasks[0], given, keys(words, device), pack.first.protocol, pack.first.solver.on_tokens)


@dataclass(frozen=True)
class Drawing:
    """How a pack draws prompts: the task's structure, each job's floats and frame, and the streams' keys."""

    task: Task
    job: dict[str, Tensor]
    key: Tensor
    protocol: Protocol
    tokens: bool

    def draw(self, job: Mapping[str, Tensor], random: Random, prompts: int, withheld: int = 0) -> Prompts:
        """A batch as the protocol says: examples or statistics, with a sampled or an exact query.

        Tokens hold examples and a query, so token models get those whatever the protocol; and where no w* gives the
        target, the query is sampled.
        """
        task, frame = having(self.task, under("task", job)), job.get("frame")
        if self.tokens:
            return task.examples(random, frame, prompts).with_tokens()
        if self.protocol.draw != "examples" and self.protocol.query == "exact" and not withheld:
            return task.prompts(random, frame, prompts)
        examples = task.examples(random, frame, prompts).withhold(withheld)
        return examples.prompts(sampled_query=self.protocol.query == "sampled")

    def batch(self, job: Mapping[str, Tensor], random: Random, prompts: int) -> Prompts:
        """A training batch: drawn likewise, or its prompts' examples, each left out in turn, `n 1 jobs ...`."""
        if self.protocol.labels == "query":
            return self.draw(job, random, prompts)
        examples = having(self.task, under("task", job)).examples(random, job.get("frame"), prompts)
        return examples.leave_one_out(tokens=self.tokens)


def of_experts(pack: Pack, device: torch.device) -> dict[str, Tensor]:
    """The parameters of all jobs' experts, `jobs ...`, each behind the number of its expert: 0.A, 1.A."""
    for job, experts in zip(pack.jobs, pack.experts, strict=False):
        for other, expert in zip(job.experts, experts, strict=True):
            if expert.diverged:
                raise UserError(f"an expert diverged, job {other.id}: {expert.diverged}")
            if not expert.params and other.solver.trains:
                raise UserError(f"the weights of an expert are lost, job {other.id}; run its own sweep again")
    return {
        f"{e}.{name}": torch.stack([experts[e].params[name] for experts in pack.experts]).to(device)
        for e, expert in enumerate(pack.experts[0] if pack.experts else ())
        for name in expert.params
    }


def of_trials(pack: Pack, name: str, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "trials jobs"]:
    """A float of the protocol or solver in every trial of every job."""
    values = [[trial.get(name, getattr(job.protocol, name, None)) for trial in job.trials] for job in pack.jobs]
    return torch.tensor(values, dtype=dtype, device=device).T.contiguous()
