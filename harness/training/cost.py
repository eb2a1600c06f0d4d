"""What a pack should cost by a model of its structure: the prior, in seconds on one core of the machine that it was
fitted on (2026, AVX-512, 3 GHz) and in bytes at the peak of memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..compiler.lower import UNROLLED_LIMIT
from ..compiler.select import SEEDS
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
    members, programs = 0, []
    if job.solver.trains:
        trained, drawn = _steps(job)
        members = len(job.trials)
        seen = trained * protocol.batch * depth * layer
        drawing = drawn * protocol.batch * draw if protocol.renew else 0.0
        programs.append((drawn * depth * 2e-4, 3e-8 * seen + 8 * drawing, 43 * depth * layer, 1e-10 * seen + drawing))
    passes = [(protocol.test_prompts, 1 + tests, depth * layer)]
    if job.solver.family == "bound":
        passes.append((math.prod(batches(d)), 1, depth * d * (d + depth)))
    for count, times, work in passes:
        prompts = count * times
        programs.append((0.0, prompts * (8 * draw + 2e-8 * work), 10 * work, prompts * (draw + 1e-9 * work)))
    fixed, each = 0.05, 0.0
    for eager_fixed, eager, lines, compiled in programs:  # runs as what is done sooner with a case's seeds
        ready = _compiling(lines)
        eagerly = eager_fixed + SEEDS * eager < ready + SEEDS * compiled
        fixed += eager_fixed if eagerly else ready
        each += eager if eagerly else compiled
    each += (1 + tests) * protocol.test_prompts * (depth + 1) * 3e-8  # quantiles
    memory = 8 * protocol.test_prompts * (depth + 1) * 2.0
    if job.solver.trains:
        at_once = protocol.validation_prompts if members > 1 else protocol.batch
        memory += 4 * at_once * members * layer * (2 + depth)
    return Prior(fixed, each, 3e7, memory)


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
    """Seconds until a program is ready: traced, and compiled to so many unrolled lines or to loops."""
    return 0.25 + 1.5e-4 * lines if lines < UNROLLED_LIMIT else 0.8


def structure(job: Job) -> str:
    """A short name of the structure that the jobs of one pack share."""
    return digest(job.structure)
