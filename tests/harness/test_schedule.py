"""What may befall a pack, with an executor of the test's own; no process is harmed, and no second is waited for."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field, replace
from itertools import pairwise

import pytest
import torch

from lfombench.harness import PROTOCOLS, Job, Sweep, run
from lfombench.harness.driver.checkpoints import Shelf
from lfombench.harness.scheduler import faults, schedule
from lfombench.harness.scheduler.faults import POLICY, Fault, Paused, attempt
from lfombench.harness.scheduler.schedule import Limits, outcomes
from lfombench.harness.store.filesystem import place
from lfombench.harness.training import execute, train
from lfombench.harness.training.pack import Cost, Pack
from lfombench.solvers import ConjugateGradient, LinearTransformer
from lfombench.tasks import LinearRegression
from tests.harness.test_launch import Paper

QUICK = replace(PROTOCOLS["rigorous"], steps=2, batch=4, learning_rates=(0.1,), test_prompts=64)
TASK = LinearRegression(d=2, n=3)
CPU = torch.device("cpu")


def pack(seeds=range(8), seconds: float | None = None, measured: bool = True, solver=None, **options) -> Pack:
    solver = solver or ConjugateGradient(depth=1)
    protocol = replace(QUICK, **options)
    jobs = tuple(Job.of(task=TASK, solver=solver, protocol=protocol, seed=seed) for seed in seeds)
    return Pack(jobs, expected=seconds and Cost(seconds, seconds / 2, 2 * seconds, 0.0, measured))


@dataclass
class Clock:
    """Time that passes only when somebody waits."""

    now: float = 1000.0

    def monotonic(self) -> float:
        return self.now


@dataclass
class Acted:
    """Workers that do what `script` says of a pack: events, or None for one that hangs."""

    script: object
    clock: Clock
    workers: int = 2
    running: dict = field(default_factory=dict)
    killed: list = field(default_factory=list)
    started: list = field(default_factory=list)
    paused: bool = False

    def fit(self, packs):
        pass

    def idle(self):
        return self.workers - len(self.running)

    def start(self, key, pack):
        self.started.append((self.clock.now, pack))
        self.running[key] = deque(self.script(pack, len(self.started)))

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
    monkeypatch.setattr(schedule.time, "monotonic", made.monotonic)
    return made


def finish(pack: Pack):
    return execute.execute(pack, CPU)


def guilty(kind, seed=5):
    """A pack that holds the guilty job has that fault; others finish."""
    return lambda pack, n: [Fault(kind, "as ordered") if any(j.seed == seed for j in pack.jobs) else finish(pack)]


@pytest.mark.parametrize("kind", list(POLICY))
def test_a_guilty_job_is_found_whatever_it_does_and_its_neighbours_finish(clock, kind):
    desk = Paper()
    acted = Acted(guilty(kind), clock)
    found = list(outcomes([pack()], acted, desk))
    failed = [name for _, outcome in found for name, _ in outcome.failed]
    assert len(failed) == 1
    assert "seed 5" in failed[0]
    done = [row for _, outcome in found for row in outcome.tables["jobs"].to_pylist() if row["status"] == "done"]
    assert sorted(row["seed"] for row in done) == [0, 1, 2, 3, 4, 6, 7]
    alone = [at for at, one in acted.started if [job.seed for job in one.jobs] == [5]]
    assert len(alone) == POLICY[kind].alone
    waits = [b - a for a, b in pairwise(alone)]
    assert waits == sorted(waits)
    assert all(wait >= POLICY[kind].backoff for wait in waits)
    widths = Counter(len(one.jobs) for _, one in acted.started if any(job.seed == 5 for job in one.jobs))
    assert widths == {8: POLICY[kind].together, 4: POLICY[kind].together, 2: POLICY[kind].together, 1: len(alone)}


def test_a_worker_that_dies_once_costs_a_second_try_and_no_split(clock):
    acted = Acted(lambda pack, n: [Fault("worker", "killed") if n == 1 else finish(pack)], clock)
    [(done, outcome)] = outcomes([pack()], acted, Paper())
    assert outcome.jobs == len(done.jobs) == 8
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
        acted = Acted(lambda pack, n: [None] * 100_000 if n == 1 else [finish(pack)], clock, workers=1)
        begin = clock.now
        found = list(outcomes([pack(seconds=expected, measured=measured)], acted, Paper(), limits))
        assert sum(outcome.jobs for _, outcome in found) == 8
        assert acted.killed == [0]
        assert acted.started[1][0] - begin == pytest.approx(seconds, abs=1.0)


def test_a_sign_of_life_puts_the_deadline_off(clock):
    [*_, sign] = [event for event in halted(pack(range(2), solver=LT, steps=60))]

    def script(pack, n):
        return [*[None] * 80, sign, *[None] * 80, sign, *[None] * 80, finish(pack)]

    acted = Acted(script, clock, workers=1)
    [(_, outcome)] = outcomes([pack(range(2), solver=LT, steps=60)], acted, Paper(), Limits(deadline=50.0))
    assert outcome.jobs == 2
    assert not acted.killed


LT = LinearTransformer(depth=1, preconditioner="full")


def halted(given: Pack) -> list:
    """A checkpoint of a pack in the middle of its training."""
    stages = execute.stages(given, CPU)
    next(stages)
    return [next(stages)()]


@pytest.fixture(autouse=True)
def _often(monkeypatch):
    monkeypatch.setattr(train, "STEPS", 20)


def test_a_straggler_is_started_again_elsewhere_and_the_first_result_wins(clock):
    """Its first worker never comes back; the second copy does, and the first is ended. No result is there twice."""
    acted = Acted(lambda pack, n: [None] * 100_000 if n == 1 else [finish(pack)], clock)
    begin = clock.now
    found = list(outcomes([pack(seconds=20.0)], acted, Paper()))
    assert [outcome.jobs for _, outcome in found] == [8]
    assert acted.killed == [0]
    assert len(acted.started) == 2
    assert 80.0 <= acted.started[1][0] - begin < 82.0  # twice the upper bound
    slow = Acted(lambda pack, n: [*[None] * 200, finish(pack)] if n == 1 else [None] * 100_000, clock)
    found = list(outcomes([pack(seconds=20.0)], slow, Paper()))
    assert [outcome.jobs for _, outcome in found] == [8]
    assert slow.killed == [1]  # the copy, where the first comes back after all


def test_a_straggler_whose_copy_fails_still_counts(clock):
    def script(pack, n):
        return [*[None] * 200, finish(pack)] if n == 1 else [Fault("worker", "killed")]

    found = list(outcomes([pack(seconds=20.0)], Acted(script, clock), Paper()))
    assert [outcome.jobs for _, outcome in found] == [8]


@pytest.mark.parametrize(("most", "failed"), [(0, 1), (2, 3), (None, 6)])
def test_so_many_failures_are_put_up_with_and_no_more(clock, most, failed):
    packs = [pack([seed]) for seed in range(6)]
    acted = Acted(lambda pack, n: [Fault("exception", "as ordered")], clock, workers=1)
    found = list(outcomes(packs, acted, Paper(), Limits(failures=most)))
    assert len(found) == failed
    assert acted.paused == (most is not None)


def test_asked_to_stop_it_starts_nothing_more_and_what_runs_stops_where_it_can_go_on(clock):
    asked: list[bool] = []
    acted = Acted(lambda pack, n: [finish(pack)] if n == 1 else [None] * 3, clock, workers=1)
    found = []
    for one in outcomes([pack([seed]) for seed in range(4)], acted, Paper(), Limits(stop=lambda: bool(asked))):
        found.append(one)
        asked.append(True)
    assert len(found) == 1
    assert len(acted.started) == 1


def test_an_attempt_yields_checkpoints_and_stops_at_one_when_asked(monkeypatch):
    given = pack(range(2), solver=LT, steps=100)
    monkeypatch.setattr(faults, "EVERY", 0.0)
    *signs, end = attempt(given)
    assert [sign.first for sign in signs] == [0, 20, 40, 60, 80]
    assert end.jobs == 2
    asked = iter([False, False, True])
    *_, sign, end = attempt(given, lambda: next(asked))
    assert (sign.first, end) == (40, Paused())


def test_a_shelf_keeps_what_runs_and_only_that(tmp_path, monkeypatch):
    """Checkpoints of two packs; their halves, and both as one, go on from them; what is done leaves no file."""
    shelf = Shelf(place(str(tmp_path)))
    packs = [pack(range(4), solver=LT, steps=60), pack(range(4, 6), solver=LT, steps=60)]
    for one in packs:
        shelf.keep(one, halted(one)[0])
    assert len(shelf.place.names("checkpoints")) == 2
    again = Shelf(place(str(tmp_path)))
    both = Pack((*packs[1].jobs, *packs[0].jobs))
    whole = {row["job"]: row["mse"] for row in finish(both).tables["results"].to_pylist() if row["step"] == 1}
    for given in (*schedule.halves(packs[0]), both, packs[1]):
        resumed = replace(given, resume=again.resume(given))
        assert resumed.resume.first == 20
        for row in finish(resumed).tables["results"].to_pylist():
            if row["step"] == 1:
                assert row["mse"] == whole[row["job"]]
    assert again.resume(Pack((*both.jobs, *pack([7], solver=LT, steps=60).jobs))) is None
    again.done(job.id for job in packs[0].jobs[:3])
    assert len(again.place.names("checkpoints")) == 2
    again.done(job.id for job in packs[0].jobs)
    assert again.place.names("checkpoints") == [f"{packs[1].id}.safetensors"]
    path = tmp_path / "checkpoints" / f"{packs[1].id}.safetensors"
    path.write_bytes(path.read_bytes()[:200])
    assert Shelf(place(str(tmp_path))).resume(packs[1]) is None
    assert again.resume(packs[1]) is None
    assert again.place.names("checkpoints") == []


def test_other_code_does_not_go_on_from_a_checkpoint(tmp_path, monkeypatch):
    shelf = Shelf(place(str(tmp_path)))
    given = pack(range(2), solver=LT, steps=60)
    shelf.keep(given, halted(given)[0])
    assert shelf.resume(given).first == 20
    monkeypatch.setattr("lfombench.harness.driver.checkpoints.code", lambda case: "another")
    assert Shelf(place(str(tmp_path))).resume(given) is None


def test_a_checkpoint_of_jobs_that_are_done_is_swept_up(tmp_path):
    """As a driver leaves it that dies between a commit and that."""
    given = pack(range(2), solver=LT, steps=60)
    sweep = Sweep(name="x", tasks=[TASK], solvers=[LT], protocols=[given.first.protocol], seeds=range(2))
    assert run(sweep, str(tmp_path), workers=0, mlflow="off").exit_code == 0
    shelf = Shelf(place(str(tmp_path)))
    shelf.keep(given, halted(given)[0])
    assert shelf.place.names("checkpoints")
    assert run(sweep, str(tmp_path), workers=0, mlflow="off").ran == 0
    assert shelf.place.names("checkpoints") == []
