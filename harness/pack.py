"""A pack: jobs of one structure, their floats stacked into tensors, and the prompts they share."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

import torch
from torch import Tensor

from lfombench.tasks import Prompts, Task

from .job import Job, digest, name_of
from .streams import Streams

T = TypeVar("T")


@dataclass(frozen=True)
class Pack:
    """Jobs of one structure, and the tasks they are tested on besides their own."""

    jobs: tuple[Job, ...]
    tests: tuple[Task, ...] = ()

    @property
    def id(self) -> str:
        """Depends on the jobs and tests alone."""
        return digest([[job.id for job in self.jobs], [spec_of(task) for task in self.tests]])

    @property
    def first(self) -> Job:
        """A job that stands for the structure of all."""
        return self.jobs[0]

    @property
    def members(self) -> int:
        """How many models it trains: a job has one for each learning rate it tunes over."""
        return len(self.jobs) * (
            len(self.first.protocol.learning_rates) if self.first.solver.family == "learned" else 1
        )


def spec_of(part: Any) -> dict[str, Any]:
    """A task or solver as JSON."""
    return {name_of(part): asdict(part)}


def stack(parts: Sequence[T], dtype: torch.dtype, device: torch.device) -> T:
    """One part whose float fields are tensors with an entry per given part: `parts 1 1`, or `parts k` for k floats."""

    def stacked(values: list[Any]) -> Any:
        if isinstance(values[0], float):
            return torch.tensor(values, dtype=dtype, device=device)[:, None, None]
        if isinstance(values[0], tuple) and values[0] and isinstance(values[0][0], float):
            return torch.tensor(values, dtype=dtype, device=device)
        return values[0]

    packed = copy(parts[0])
    for f in fields(packed):  # type: ignore[arg-type]
        object.__setattr__(packed, f.name, stacked([getattr(part, f.name) for part in parts]))
    return packed


class Source:
    """Prompts for the jobs of a pack, from one stream per task and seed: jobs that agree in both meet the same prompts.

    The frame (a rotation, say) depends only on the kind of task, its d and the seed, so that a shifted test task turns
    with its training task.
    """

    def __init__(
        self, tasks: Sequence[Task], jobs: Sequence[Job], role: str, dtype: torch.dtype, device: torch.device
    ) -> None:
        words = [(spec_of(t), job.seed, job.protocol.data_seed) for t, job in zip(tasks, jobs, strict=True)]
        names = [digest(word) for word in words]
        distinct = list(dict.fromkeys(names))
        self.index = [distinct.index(name) for name in names]
        streams = [(tasks[i], words[i]) for i in map(names.index, distinct)]
        self.shared = self.index != list(range(len(jobs)))
        self.task = stack([task for task, _ in streams], dtype, device)
        frames = Streams(
            [("frame", name_of(task), task.d, seed) for task, (_, seed, _) in streams], torch.float64, device
        )
        frame = self.task.frame(frames)
        self.frame = None if frame is None else frame.to(dtype)
        keys = [
            (role, spec, seed if data_seed is None else f"data {data_seed}") for _, (spec, seed, data_seed) in streams
        ]
        self.random = Streams(keys, dtype, device)

    def draw(self, prompts: int, *, through: str, query: str, withheld: int = 0) -> Prompts:
        """The next prompts of every job: `through` examples or statistics, with a sampled or an exact query."""
        if through == "statistics" and query == "exact" and not withheld:
            drawn = self.task.prompts(self.random, self.frame, prompts)
        else:
            examples = self.task.examples(self.random, self.frame, prompts).withhold(withheld)
            drawn = examples.prompts(sampled_query=query == "sampled")
        return drawn.select(self.index) if self.shared else drawn


def per_job(values: Sequence[float], like: Tensor) -> Tensor:
    """A float per job, shaped to broadcast with parameters `rates jobs ...`."""
    return torch.tensor(values, dtype=like.dtype, device=like.device).view(1, -1, *[1] * (like.ndim - 2))
