"""What a pack should cost by a model of its structure: the prior, in seconds on one core of the machine that it was
fitted on (2026, AVX-512, 3 GHz) and in bytes at the peak of memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..compiler.lower import UNROLLED_LIMIT
from ..compiler.select import LEAST
from ..spec.job import Job
from ..spec.labels import digest
from .closed_form import batches

USUAL = 4  # cycles until a plateau


@dataclass(frozen=True)
class Prior:
    """Seconds and bytes: what a pack costs whatever its width, and what each job adds."""

    fixed: float
    each: float
    bytes_fixed: float
    bytes_each: float

    def seconds(self, jobs: int) -> float:
        """Seconds of a pack of so many jobs."""
        return self.fixed + jobs * self.each

    def bytes(self, jobs: int) -> float:
        """Bytes at the peak of a pack of so many jobs."""
        return self.bytes_fixed + jobs * self.bytes_each


def prior(job: Job, tests: int = 0) -> Prior:
    """The prior of a pack of such jobs that are tested on so many further tasks."""
    d, n, depth, protocol = job.task.d, job.task.n, job.solver.depth, job.protocol
    through_x = protocol.draw == "examples" or job.solver.on_tokens
    variates = d * n + 2 * d if through_x else d * (d / 2 + 2.5)
    draw = 8e-10 * variates + 5e-11 * (d * d * n if through_x else d**3)
    layer = d * d * (1 if not job.solver.on_tokens else n)
    members, compiled = 0, 0.0
    fixed, each = 0.05, 0.0
    if job.solver.trains:
        trained, drawn = _steps(job)
        members = len(job.trials)
        prompts = drawn * protocol.batch
        eager = prompts < LEAST
        compiled += 0.0 if eager else _compiling(43 * depth * layer)
        rate = 3e-8 if eager else 1e-10
        each += trained * protocol.batch * rate * depth * layer
        each += prompts * (draw * (8 if eager else 1) if protocol.renew else 0.0)
        fixed += drawn * depth * 2e-4 if eager else 0.0
    passes = [(protocol.test_prompts, 1 + tests, depth * layer)]
    if job.solver.family == "bound":
        passes.append((math.prod(batches(d)), 1, depth * d * (d + depth)))
    for count, times, work in passes:
        eager = count < LEAST
        compiled += 0.0 if eager else _compiling(10 * work)
        each += count * times * (draw * (8 if eager else 1) + (2e-8 if eager else 1e-9) * work)
    each += (1 + tests) * protocol.test_prompts * (depth + 1) * 3e-8  # quantiles
    memory = 8 * protocol.test_prompts * (depth + 1) * 2.0
    if job.solver.trains:
        at_once = protocol.validation_prompts if members > 1 else protocol.batch
        memory += 4 * at_once * members * layer * (2 + depth)
    return Prior(fixed + compiled, each, 3e7, memory)


def _steps(job: Job) -> tuple[int, int]:
    """Training steps of all trials together, and of the longest; where a plateau ends them, of USUAL cycles."""
    protocol, trials, trained, begin = job.protocol, len(job.trials), 0, 0
    rounds = protocol.rounds if protocol.plateau is None else protocol.rounds[:USUAL]
    for round in rounds:
        trained += trials * (round - begin)
        begin = round
        trials = -(-trials // protocol.halving) if protocol.halving else trials
    return trained, begin


def _compiling(lines: float) -> float:
    """Seconds of the C++ compiler: for so many unrolled lines, or for loops, whose length hardly varies."""
    return 0.6 + 4e-4 * lines if lines < UNROLLED_LIMIT else 1.2


def structure(job: Job) -> str:
    """A short name of the structure that the jobs of one pack share."""
    return digest(job.structure)
