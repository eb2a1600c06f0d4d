"""From jobs to packs, and what they will cost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lfombench.tasks import Task

from .engine import FIT_PROMPTS
from .job import Job, label
from .pack import Pack

MEMORY = 1 << 29  # bytes a pack's tensors may take, by the estimate below
WIDEST = 64  # jobs in a pack
CHEAP = 8.0  # seconds: packs below this go first, so that a board soon has something to show


def packs(jobs: Iterable[Job], tests: tuple[Task, ...]) -> list[Pack]:
    """Jobs grouped by structure, in an order that shows results early and does not end on a long pack."""
    groups: dict[str, list[Job]] = {}
    for job in jobs:
        groups.setdefault(job.structure, []).append(job)
    made = [
        Pack(tuple(group[i : i + width]), tests)
        for group in groups.values()
        for width in [_width(group[0])]
        for i in range(0, len(group), width)
    ]
    return sorted(made, key=lambda pack: (work(pack) > CHEAP, work(pack) if work(pack) <= CHEAP else -work(pack)))


def _width(job: Job) -> int:
    """Jobs of this structure that fit the memory of one pack."""
    d, depth, protocol = job.task.d, job.solver.depth, job.protocol
    members = Pack((job,)).members
    train = 4 * protocol.batch * d * (d + 8 * depth) * members if job.solver.family == "learned" else 0
    # test prompts come in chunks, a closed-form fit takes all of its prompts at once
    closed = 8 * FIT_PROMPTS * d * (d + 3 * depth) if job.solver.family == "bound" else 0
    test = 8 * protocol.test_prompts * (depth + 1)
    return max(1, min(WIDEST, MEMORY // (train + closed + test)))


def work(pack: Pack) -> float:
    """Predicted seconds on one core of the machine this was fitted on: a unit that history turns into seconds."""
    job = pack.first
    d, depth, protocol = job.task.d, job.solver.depth, job.protocol
    jobs = len(pack.jobs)
    tested = jobs * (1 + len(pack.tests)) * protocol.test_prompts
    seconds = 0.05 + tested * (1e-6 + 8e-9 * d * (d + 2) * (depth + 1))
    if job.solver.family == "bound":
        seconds += jobs * FIT_PROMPTS * (1e-6 + 20e-9 * d * (d + 2 * depth) * depth)
    if job.solver.family == "learned":
        layers = depth * (120e-6 + 4.4e-9 * pack.members * protocol.batch * d * (d + 4))
        draws = jobs * protocol.batch * 1e-6 if protocol.fresh else 0.0
        seconds += protocol.steps * (250e-6 + layers + draws)
    return seconds


@dataclass(frozen=True)
class Estimate:
    """What is left to do, in seconds on so many workers."""

    seconds: float
    workers: int
    measured: bool  # whether the store's own history calibrated it


def estimate(todo: list[Pack], workers: int, history: float | None) -> Estimate:
    """Time for these packs; `history` is seconds per unit of work, measured on packs already run."""
    costs = [work(pack) * (history or 1.0) for pack in todo]
    seconds = max(sum(costs) / max(workers, 1), max(costs, default=0.0))
    return Estimate(seconds, workers, history is not None)


def pending(jobs: Iterable[Job], tests: tuple[str, ...], done: set[tuple[str, str]]) -> Iterator[Job]:
    """Jobs that lack results on their own task or on one of the tests; `done` holds (job id, test) pairs."""
    for job in jobs:
        if any((job.id, test) not in done for test in (label(job.task), *tests)):
            yield job
