"""A cluster that is pretended, through the real scheduling code: a thousand nodes that die, straggle, and come and go.

Time is made up; what the driver computes is not. No worker computes anything.

    python benchmarks/simulation.py [--nodes 1000] [--minutes 60]
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import random
import time
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from unittest.mock import patch

from idle import Blank, Idle
from timing import Row

from lfombench.harness import PROTOCOLS, Job
from lfombench.harness.scheduler.faults import Event, Fault, Paused
from lfombench.harness.scheduler.packing import PlannedPack
from lfombench.harness.scheduler.schedule import Limits, outcomes
from lfombench.harness.store.outcome import Outcome
from lfombench.harness.training.checkpoint import Checkpoint
from lfombench.harness.training.pack import CHECKPOINT_EVERY, Cost, Pack, WorkOrder

WORKERS = 4  # of a node
SECONDS = 20.0  # of a pack
DYING = 0.01  # of the nodes, in a minute
SPOT = 0.2  # of the nodes are told to end after a while,
LIFE = 1800.0  # seconds on average
AWAY = 120.0  # seconds until another node takes the place of one that is gone
STRAGGLING = 0.01  # of the packs take
SLOWER = 5.0  # times as long
STARTING = 10.0  # seconds of a worker


@dataclass
class Clock:
    """Time that passes when somebody waits."""

    now: float = 0.0

    def monotonic(self) -> float:
        return self.now


@dataclass
class Running:
    """A pack on a worker."""

    order: WorkOrder
    node: int
    begun: float
    through: float  # when it is done, if nothing comes in between


@dataclass
class Pretended:
    """Workers on nodes that die, are told to end, and are replaced; the executor's contract."""

    nodes: int
    clock: Clock
    random: random.Random
    done_before: dict[str, float] = field(
        default_factory=lambda: defaultdict(float)
    )  # seconds of work in each pack's checkpoint
    deaths: int = 0
    drained: int = 0
    lived: float = 0.0  # seconds of workers that were there
    useful: float = 0.0  # of which packs were worked on that counted

    def __post_init__(self) -> None:
        self.number = itertools.count()
        self.queue: list[tuple[float, int, str, int]] = []  # what happens when, to which node or pack
        self.free: dict[int, int] = {}  # workers by node that lives
        self.ready: list[tuple[int, float]] = []  # for each free worker its node, and since when that lives
        self.count = 0  # of free workers
        self.since: dict[int, float] = {}
        self.running: dict[int, Running] = {}
        self.on: dict[int, set[int]] = {}  # packs by node
        for node in range(self.nodes):
            self._up(node)

    @property
    def workers(self) -> Mapping[str, int]:
        return {"cpu": WORKERS * len(self.free)}

    def fit(self, packs: Collection[PlannedPack]) -> None:
        pass

    def expect(self, waiting: Mapping[str, int]) -> None:
        pass

    def idle(self) -> dict[str, int]:
        return {"cpu": self.count}

    def start(self, key: int, order: WorkOrder, kind: str) -> None:
        node, since = self.ready.pop()
        while self.since.get(node) != since:  # it is gone, and its workers with it
            node, since = self.ready.pop()
        self.free[node] -= 1
        self.count -= 1
        left = SECONDS - self.done_before[order.pack.id]
        slower = SLOWER if self.random.random() < STRAGGLING else 1.0
        through = self.clock.now + left * slower * self.random.uniform(0.8, 1.2)
        self.running[key] = Running(order, node, self.clock.now, through)
        self.on[node].add(key)
        self._later(through, "pack", key)

    def poll(self, seconds: float) -> list[tuple[int, Event]]:
        end = self.clock.now + seconds
        events: list[tuple[int, Event]] = []
        while self.queue and self.queue[0][0] <= end and not events:
            at, _, what, which = heapq.heappop(self.queue)
            self.clock.now = max(self.clock.now, at)
            events = self._happens(what, which)
        self.clock.now = self.clock.now if events else end
        return events

    def kill(self, key: int) -> None:
        one = self.running.pop(key)
        self.on[one.node].discard(key)
        self._later(self.clock.now + STARTING, "worker", one.node)

    def pause(self) -> None:
        pass

    def close(self) -> None:
        for node in self.since:
            self.lived += WORKERS * (self.clock.now - self.since[node])

    def _happens(self, what: str, which: int) -> list[tuple[int, Event]]:
        if what == "pack":
            return self._through(which)
        if what == "worker":
            self._free(which)
            return []
        if what == "node":
            self._up(which)
            return []
        return self._down(which, paused=what == "drain") if which in self.free else []

    def _through(self, key: int) -> list[tuple[int, Event]]:
        one = self.running.pop(key, None)
        if one is None:
            return []
        self.on[one.node].discard(key)
        self._free(one.node)
        self.useful += self.clock.now - one.begun
        jobs = len(one.order.jobs)
        return [(key, Outcome(one.order.pack.id, {}, jobs))]

    def _down(self, node: int, *, paused: bool) -> list[tuple[int, Event]]:
        """A node dies, or ends as it was told to: then its packs can go on from where they are."""
        self.deaths, self.drained = self.deaths + (not paused), self.drained + paused
        self.lived += WORKERS * (self.clock.now - self.since.pop(node))
        self.count -= self.free.pop(node)
        events: list[tuple[int, Event]] = []
        for key in self.on.pop(node):
            one = self.running.pop(key)
            worked = self.clock.now - one.begun
            kept = worked if paused else worked // CHECKPOINT_EVERY * CHECKPOINT_EVERY
            slower = (one.through - one.begun) / (SECONDS - self.done_before[one.order.pack.id])
            self.useful += kept
            self.done_before[one.order.pack.id] += kept / slower
            events.append((key, Paused() if paused else Fault("node", "it died")))
        self._later(self.clock.now + AWAY, "node", node)
        return events

    def _up(self, node: int) -> None:
        self.free[node], self.on[node], self.since[node] = 0, set(), self.clock.now
        for _ in range(WORKERS):
            self._later(self.clock.now + STARTING, "worker", node)
        self._later(self.clock.now + self.random.expovariate(DYING / 60.0), "death", node)
        if node < SPOT * self.nodes:
            self._later(self.clock.now + self.random.expovariate(1 / LIFE), "drain", node)

    def _free(self, node: int) -> None:
        """A worker of a node is free, if that lives."""
        if node in self.free and self.free[node] < WORKERS:
            self.free[node] += 1
            self.count += 1
            self.ready.append((node, self.since[node]))

    def _later(self, at: float, what: str, which: int) -> None:
        heapq.heappush(self.queue, (at, next(self.number), what, which))


class NoRecord:
    """Sends packs as they are."""

    def order(self, planned: PlannedPack) -> WorkOrder:
        return WorkOrder(planned.pack)

    def keep(self, pack: Pack, checkpoint: Checkpoint) -> None:
        pass

    def ran_out_of_memory(self, pack: Pack, device: str) -> None:
        pass


def simulated(nodes: int, minutes: float) -> tuple[Pretended, float, float, int]:
    """A run of as many packs as the nodes do in some minutes: the workers, the seconds that it took on the cluster and
    the driver's processor, and the number of packs.
    """
    case = Job.of(
        task=Blank(d=1, n=2), solver=Idle(depth=1), protocol=replace(PROTOCOLS["published"], test_prompts=64), seed=0
    )
    count = int(nodes * WORKERS * minutes * 60 / SECONDS)
    cost = Cost(SECONDS, SECONDS / 1.5, SECONDS * 1.5, 0.0, True)
    packs = (PlannedPack(Pack((replace(case, seed=seed),)), cost) for seed in range(count))
    clock = Clock()
    executor = Pretended(nodes, clock, random.Random(0))
    begin = time.process_time()
    with patch("lfombench.harness.awake.time.monotonic", clock.monotonic):
        done = sum(outcome.jobs for _, outcome in outcomes(packs, executor, NoRecord(), Limits()))
    seconds = time.process_time() - begin
    executor.close()
    assert done == count, f"{done} of {count}"
    return executor, clock.now, seconds, count


def rows(nodes: int = 1000, minutes: float = 60.0) -> list[Row]:
    executor, took, seconds, packs = simulated(nodes, minutes)
    share = executor.useful / executor.lived
    befell = f"{executor.deaths:,} nodes died, {executor.drained:,} were told to end and handed their packs back"
    work = f"{nodes:,} pretended nodes of {WORKERS} workers, {packs:,} packs of {SECONDS:g} s"
    note = f"{took / 60:.0f} minutes of made-up time; {befell}; 1 % of the packs took {SLOWER:g} times as long"
    each = f"the scheduler alone, with {nodes * WORKERS:,} workers; nothing is sent and nothing is written"
    return [
        Row(f"{work}, share of the workers' time that counted", "%", None, 100 * share, None, None, None, 95, note),
        Row(f"{work}, processor of the driver", "us a pack", None, 1e6 * seconds / packs, None, None, None, None, each),
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=60.0)
    chosen = parser.parse_args()
    for row in rows(chosen.nodes, chosen.minutes):
        print(row)
