"""Pools: workers of one kind, the cores or the GPUs of a machine or of a cluster, and which jobs each of them gets."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from ..training.cost import Prior
from .estimate import History

T = TypeVar("T")

BISECTIONS = 50
ROUNDING = 1e-9  # of the number of jobs that a worker does in a time

MEMORY = 1 << 30  # bytes that a pack may take, where nothing says how much there is
ON_GPU = 0.01  # seconds for a second on a core
USUAL = {"cpu": 1.0, "gpu": ON_GPU}  # for a second of the prior's, where no pack has been measured


@dataclass(frozen=True)
class Pool:
    """Workers of one kind, each with at most one pack."""

    kind: str = "cpu"  # or gpu
    device: str = "cpu"  # as the jobs table has it
    workers: int = 1
    memory: float = MEMORY  # bytes that a pack may take
    history: History = field(default_factory=History)  # what packs have cost there


def divided(members: Sequence[T], costs: Sequence[Prior], workers: Sequence[int]) -> list[Sequence[T]]:
    """Jobs of one structure as a part for each pool, such that all are done as early as can be. Where one pool is as
    good as two, the faster one gets them.

    costs: of a job in each pool. workers: of each pool that these jobs may keep busy.
    """

    def done(seconds: float) -> list[int]:
        """How many jobs each pool does within some seconds: every worker prepares once, then does whole jobs."""
        pairs = zip(costs, workers, strict=True)
        return [number * max(0, math.floor((seconds - cost.fixed) / cost.each + ROUNDING)) for cost, number in pairs]

    there = [i for i, number in enumerate(workers) if number]
    low, high = 0.0, min(costs[i].seconds(-(-len(members) // workers[i])) for i in there)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if sum(done(middle)) >= len(members) else (middle, high)
    parts, left = {}, len(members)
    for i in sorted(there, key=lambda i: costs[i].each):
        parts[i] = min(left, done(high)[i])
        left -= parts[i]
    cuts = [sum(parts.get(j, 0) for j in range(i)) for i in range(len(costs) + 1)]
    return [members[begin:end] for begin, end in itertools.pairwise(cuts)]
