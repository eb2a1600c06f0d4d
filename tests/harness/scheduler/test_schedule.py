"""Faults of packs on workers, with an executor of the test's own; no process is harmed, and no second is waited for."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field, replace
from itertools import pairwise

import pytest
import torch

from lfombench.harness import PROTOCOLS, Job
from lfombench.harness.scheduler.faults import Fault, Paused, run_pack
from lfombench.harness.scheduler.packing import PlannedPack
from lfombench.harness.scheduler.schedule import Limits, outcomes
from lfombench.harness.training import execute
from lfombench.harness.training.checkpoint import Checkpoint
from lfombench.harness.training.pack import Cost, Pack, WorkOrder
from lfombench.solvers import ConjugateGradient, LinearTransformer
from lfombench.tasks import LinearRegression
from tests.builders import NoRecord

QUICK = replace(PROTOCOLS["rigorous"], steps=2, batch=4, learning_rates=(0.1,), test_prompts=64)
TASK = LinearRegression(d=2, n=3)
CPU = torch.device("cpu")


def pack(seeds=range(8), seconds: float | None = None, measured: bool = True, solver=None, **options) -> PlannedPack:
    solver = solver or ConjugateGradient(depth=1)
    protocol = replace(QUICK, **options)
    jobs = tuple(Job.of(task=TASK, solver=solver, protocol=protocol, seed=seed) for seed in seeds)
    return PlannedPack(Pack(jobs), seconds and Cost(seconds, seconds / 2, 2 * seconds, 0.0, measured))


@dataclass
class Clock:
    """Time that passes only when somebody waits."""

    now: float = 1000.0

    def monotonic(self) -> float:
        return self.now


@dataclass
class Scripted:
    """Workers that do what `script` says of a work order: events, or None for one that hangs."""

    script: object
    clock: Clock
    count: int = 2
    running: dict = field(default_factory=dict)
    killed: list = field(default_factory=list)
    started: list = field(default_factory=list)
    paused: bool = False

    def fit(self, packs):
        pass

    @property
    def workers(self):
        return {"cpu": self.count}

    def expect(self, waiting):
        pass

    def idle(self):
        return {"cpu": self.count - len(self.running)}

    def start(self, key, order, kind):
        self.started.append((self.clock.now, order))
        self.running[key] = deque(self.script(order, len(self.started)))

    def poll(self, seconds):
        for key, events in [*self.running.items()]:
            if self.paused and not events:
                del self.running[key]
                return [(key, Paused())]
            if events and (event := events.popleft()) is not None:
                if not events and not isinstance(event, Checkpoint):
                    del self.running[key]
                return [(key, event)]
        self.clock.now += seconds
        return []

    def kill(self, key):
        self.killed.append(key)
        del self.running[key]

    def pause(self):
        self.paused = True

    def close(self):
        pass


@pytest.fixture
def clock(monkeypatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("lfombench.harness.awake.time.monotonic", made.monotonic)
    return made


def finish(order: WorkOrder):
    return execute.execute(order, CPU)


def guilty(kind, seed=5):
    """A pack that holds the guilty job has that fault; others finish."""
    return lambda order, n: [Fault(kind, "as ordered") if any(j.seed == seed for j in order.jobs) else finish(order)]


# How often a pack is tried before it is split, and a job alone; seconds before its second try.
TRIES = {
    "exception": (1, 1, 0.0),
    "memory": (1, 2, 5.0),
    "deadline": (1, 2, 1.0),
    "worker": (2, 3, 1.0),
    "node": (8, 8, 2.0),
    "device": (2, 3, 1.0),
}


@pytest.mark.parametrize(("kind", "tries"), TRIES.items())
def test_a_guilty_job_is_found_whatever_it_does_and_its_neighbours_finish(clock, kind, tries):
    together, as_one, backoff = tries
    executor = Scripted(guilty(kind), clock)
    found = list(outcomes([pack()], executor, NoRecord()))
    failed = [name for _, outcome in found for name, _ in outcome.failed]
    assert len(failed) == 1
    assert "seed 5" in failed[0]
    done = [row for _, outcome in found for row in outcome.tables["jobs"].to_pylist() if row["status"] == "done"]
    assert sorted(row["seed"] for row in done) == [0, 1, 2, 3, 4, 6, 7]
    alone = [at for at, one in executor.started if [job.seed for job in one.jobs] == [5]]
    assert len(alone) == as_one
    waits = [b - a for a, b in pairwise(alone)]
    assert waits == sorted(waits)
    assert all(wait >= backoff for wait in waits)
    widths = Counter(len(one.jobs) for _, one in executor.started if any(job.seed == 5 for job in one.jobs))
    assert widths == {8: together, 4: together, 2: together, 1: as_one}


def test_a_worker_that_dies_once_costs_a_second_try_and_no_split(clock):
    executor = Scripted(lambda order, n: [Fault("worker", "killed") if n == 1 else finish(order)], clock)
    [(done, outcome)] = outcomes([pack()], executor, NoRecord())
    assert outcome.jobs == len(done.pack.jobs) == 8
    assert not outcome.failed


def test_a_pack_that_hangs_is_cancelled_at_its_deadline(clock):
    """By default ten times the upper bound of what it should take, at least a minute; ten where nothing was ever
    measured; or as asked.
    """
    for expected, measured, limits, seconds in (
        (1.0, True, Limits(), 60.0),
        (40.0, True, Limits(), 800.0),
        (1.0, False, Limits(), 600.0),
        (30.0, True, Limits(deadline=5.0), 5.0),
        (None, False, Limits(), 600.0),
    ):
        executor = Scripted(lambda order, n: [None] * 100_000 if n == 1 else [finish(order)], clock, count=1)
        begin = clock.now
        found = list(outcomes([pack(seconds=expected, measured=measured)], executor, NoRecord(), limits))
        assert sum(outcome.jobs for _, outcome in found) == 8
        assert executor.killed == [0]
        assert executor.started[1][0] - begin == pytest.approx(seconds, abs=1.0)


def test_a_sign_of_life_puts_the_deadline_off(clock):
    [*_, sign] = [event for event in halted(pack(range(2), solver=LT, steps=60))]

    def script(order, n):
        return [*[None] * 80, sign, *[None] * 80, sign, *[None] * 80, finish(order)]

    executor = Scripted(script, clock, count=1)
    [(_, outcome)] = outcomes([pack(range(2), solver=LT, steps=60)], executor, NoRecord(), Limits(deadline=50.0))
    assert outcome.jobs == 2
    assert not executor.killed


def test_a_driver_that_was_asleep_takes_no_pack_for_one_that_hangs(clock):
    """A laptop that is closed, Ctrl-Z: workers are away as well, or what they sent was not heard."""

    def script(order, n):
        for _ in range(3):
            yield None
            clock.now += 3600.0
        yield finish(order)

    class Asleep(Scripted):
        def start(self, key, order, kind):
            self.running[key] = script(order, 1)

        def poll(self, seconds):
            [(key, events)] = self.running.items()
            event = next(events)
            if event is None:
                self.clock.now += seconds
                return []
            del self.running[key]
            return [(key, event)]

    executor = Asleep(script, clock, count=1)
    [(_, outcome)] = outcomes([pack()], executor, NoRecord(), Limits(deadline=5.0))
    assert outcome.jobs == 8
    assert not executor.killed


LT = LinearTransformer(depth=1, preconditioner="full")


def halted(planned: PlannedPack) -> list:
    """A checkpoint of a pack in the middle of its training."""
    stages = execute.stages(WorkOrder(planned.pack, stride=20), CPU)
    next(stages)
    return [next(stages)()]


def test_a_straggler_is_started_again_elsewhere_and_the_first_result_wins(clock):
    """Its first worker never comes back; the second copy does, and the first is ended. No result is there twice."""
    executor = Scripted(lambda order, n: [None] * 100_000 if n == 1 else [finish(order)], clock)
    begin = clock.now
    found = list(outcomes([pack(seconds=20.0)], executor, NoRecord()))
    assert [outcome.jobs for _, outcome in found] == [8]
    assert executor.killed == [0]
    assert len(executor.started) == 2
    assert 80.0 <= executor.started[1][0] - begin < 82.0  # twice the upper bound
    slow = Scripted(lambda order, n: [*[None] * 200, finish(order)] if n == 1 else [None] * 100_000, clock)
    found = list(outcomes([pack(seconds=20.0)], slow, NoRecord()))
    assert [outcome.jobs for _, outcome in found] == [8]
    assert slow.killed == [1]  # the copy, where the first comes back after all


def test_a_straggler_whose_copy_fails_still_counts(clock):
    def script(order, n):
        return [*[None] * 200, finish(order)] if n == 1 else [Fault("worker", "killed")]

    found = list(outcomes([pack(seconds=20.0)], Scripted(script, clock), NoRecord()))
    assert [outcome.jobs for _, outcome in found] == [8]


@pytest.mark.parametrize(("most", "failed"), [(0, 1), (2, 3), (None, 6)])
def test_so_many_failures_are_put_up_with_and_no_more(clock, most, failed):
    packs = [pack([seed]) for seed in range(6)]
    executor = Scripted(lambda order, n: [Fault("exception", "as ordered")], clock, count=1)
    found = list(outcomes(packs, executor, NoRecord(), Limits(failures=most)))
    assert len(found) == failed
    assert executor.paused == (most is not None)


def test_asked_to_stop_it_starts_nothing_more_and_what_runs_stops_where_it_can_go_on(clock):
    asked: list[bool] = []
    executor = Scripted(lambda order, n: [finish(order)] if n == 1 else [None] * 3, clock, count=1)
    found = []
    for one in outcomes([pack([seed]) for seed in range(4)], executor, NoRecord(), Limits(stop=lambda: bool(asked))):
        found.append(one)
        asked.append(True)
    assert len(found) == 1
    assert len(executor.started) == 1


def test_an_attempt_yields_checkpoints_and_stops_at_one_when_asked():
    order = WorkOrder(pack(range(2), solver=LT, steps=100).pack, stride=20, checkpoint_every=0.0)
    *signs, end = run_pack(order)
    assert [sign.first for sign in signs] == [0, 20, 40, 60, 80]
    assert end.jobs == 2
    asked = iter([False, False, True])
    *_, sign, end = run_pack(order, lambda: next(asked))
    assert (sign.first, end) == (40, Paused())
