"""Several drivers on one store."""

from __future__ import annotations

import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lfombench.analysis.results import table
from lfombench.harness.scheduler.sharing import Shares
from lfombench.harness.store.drivers import Pace, drivers
from lfombench.harness.store.filesystem import place
from lfombench.harness.store.lease import take
from lfombench.harness.store.manifest import Manifest, path_of
from lfombench.harness.store.store import Store
from tests.commands import process, words

QUICK = Pace(beat=0.05)


def test_shares_are_disjoint_and_whole_and_move_little(tmp_path):
    """Two drivers that want the same, and one that wants other jobs as well."""
    store = Store(str(tmp_path / "out"))
    store.create()
    jobs = [f"job {i}" for i in range(3000)]
    wants = {"one": jobs, "two": [*jobs[2000:], "more"]}
    for name, wanted in wants.items():
        store.write(path_of(name), Manifest(name=name, jobs=wanted).content)
    with take(store.place, "one", pace=QUICK) as first:
        alone = Shares(first, store)
        assert all(alone.owns(job) for job in jobs)
        with (
            take(store.place, "one", join=True, pace=QUICK) as second,
            take(store.place, "two", join=True, pace=QUICK) as third,
        ):
            shares = [Shares(each, store) for each in (first, second, third)]
            first.listen()
            second.listen()
            for each in shares:
                each.update()
            wanted = [set(wants[name]) for name in ("one", "one", "two")]
            owners = [[i for i, each in enumerate(shares) if job in wanted[i] and each.owns(job)] for job in jobs]
            assert {len(owner) for owner in owners} == {1}
            assert min(sum(owner == [i] for owner in owners[2000:]) for i in range(3)) > 250
            assert shares[2].owns("more")
            before = {job for job, owner in zip(jobs, owners, strict=True) if owner == [0]}
        first.listen()
        shares[0].update()
        assert all(shares[0].owns(job) for job in before)


def test_a_driver_joins_as_soon_as_the_others_have_heard_of_it(tmp_path):
    """Answers do not wait for the next beat."""
    store = Store(str(tmp_path / "out"))
    store.create()
    store.write(path_of("one"), Manifest(name="one", jobs=["a", "b"]).content)
    with take(store.place, "one", pace=Pace(beat=60.0)) as first:
        here = Shares(first, store)
        with take(store.place, "one", join=True, pace=Pace(beat=0.2)) as second:
            joining = threading.Thread(target=Shares(second, store).enter, args=(lambda: False, print))
            joining.start()
            first.listen()
            here.update()
            here.acknowledge()
            joining.join(20.0)
            assert not joining.is_alive()


def test_a_failure_is_heard_by_a_driver_that_is_busy_and_known_when_the_other_has_left(tmp_path):
    """Its main thread trains for longer than the other one waits: it tried the job again."""
    store = Store(str(tmp_path / "out"))
    store.create()
    store.write(path_of("one"), Manifest(name="one", jobs=["a", "b"]).content)
    with take(store.place, "one", pace=QUICK) as busy:
        shares = Shares(busy, store)
        with take(store.place, "one", join=True, pace=QUICK) as other:
            leaving = Shares(other, store)
            leaving.failed.add("a")
            leaving.announce([])
            leaving.leave(lambda: False)
            heard = {driver.number: driver.failed for driver in drivers(store.place)}
            assert heard[busy.driver.number] == ["a"]
        shares.update()
        assert shares.failed == {"a"}


def test_drivers_that_join_at_once_do_not_wait_for_each_other(tmp_path):
    """Each saw the other before it began."""
    store = Store(str(tmp_path / "out"))
    store.create()
    store.write(path_of("one"), Manifest(name="one", jobs=["a", "b"]).content)
    pace = Pace(beat=0.2)
    with take(store.place, "one", pace=pace) as first, take(store.place, "one", join=True, pace=pace) as second:
        first.listen()
        deadline = time.monotonic() + 20.0
        joining = [
            threading.Thread(target=Shares(lease, store).enter, args=(lambda: time.monotonic() > deadline, print))
            for lease in (first, second)
        ]
        for thread in joining:
            thread.start()
        for thread in joining:
            thread.join()
        assert time.monotonic() < deadline - 5.0


JOBS = 16
SLOW = """\
import dataclasses, pathlib, time
from lfombench.solvers import ConjugateGradient

HOLD = pathlib.Path(__file__).with_name("hold")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slow(ConjugateGradient):
    vain: bool = False

    def iterates(self, params, problem):
        while HOLD.exists():
            time.sleep(0.02)
        time.sleep(0.3 if self.vain else 0.1)  # alone they last longer than it takes to join
        if self.vain:
            raise ValueError("in vain")
        yield from super().iterates(params, problem)
"""


class Work:
    """A sweep of as many packs as jobs, of some tenths of a second each, which wait until they may begin; its store."""

    def __init__(self, folder: Path, vain: bool = False) -> None:
        self.folder, self.out, self.hold = folder, folder / "out", folder / "hold"
        self.hold.touch()
        (folder / "slow.py").write_text(SLOW)
        (folder / "long.yaml").write_text(
            "name: long\n"
            "protocol: {use: published, test_prompts: 64}\n"
            "tasks: [linear_regression: {d: 3, n: 6}]\n"
            f"solvers: ['slow:Slow': {{vain: {str(vain).lower()}, depth: {{each: {[*range(1, JOBS + 1)]}}}}}]\n"
        )
        self.options = ["run", "long.yaml", "--out", "out", "--workers", "0", "--mlflow", "off"]

    def start(self, *options: str) -> subprocess.Popen[str]:
        """A driver."""
        pipe = subprocess.PIPE
        return subprocess.Popen(words(*self.options, *options), stdout=pipe, stderr=pipe, text=True, cwd=self.folder)

    def begin(self, *drivers: subprocess.Popen[str]) -> None:
        """Let the work begin once all drivers are there."""
        until(lambda: self.drivers() == len(drivers))
        self.hold.unlink()

    def drivers(self) -> int:
        """Number of drivers on the store."""
        return len(drivers(place(str(self.out))))

    def check(self) -> None:
        """Every job once, in all tables; nobody there any more."""
        for name, key in (("results", ["job", "test", "step"]), ("jobs", ["job"])):
            rows = table(str(self.out), name).collect()
            assert rows["job"].n_unique() == JOBS, name
            assert len(rows) == len(rows.unique(key)), name
        assert self.drivers() == 0


def until(true: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert true()


@pytest.mark.slow
def test_two_drivers_share_a_sweep_and_no_job_runs_twice(tmp_path):
    work = Work(tmp_path)
    first = work.start()
    until(lambda: work.drivers() == 1)
    refused = process(*work.options, cwd=tmp_path)
    assert refused.returncode == 1
    assert f"process {first.pid}" in refused.stderr
    assert "--join, to work beside it" in refused.stderr
    second = work.start("--join")
    work.begin(first, second)
    told = [driver.communicate(timeout=120) for driver in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], "".join(errors for _, errors in told)
    assert "the share of other drivers" in told[1][0]
    ran = [int(re.search(r"^(\d+) jobs in", text, re.MULTILINE)[1]) for text, _ in told]
    assert sum(ran) == JOBS
    assert min(ran) > 1
    work.check()


@pytest.mark.slow
def test_drivers_do_not_wait_for_each_others_failures(tmp_path):
    """Nor try them again."""
    work = Work(tmp_path, vain=True)
    drivers = work.start("--join"), work.start("--join")
    work.begin(*drivers)
    told = [driver.communicate(timeout=120) for driver in drivers]
    assert [driver.returncode for driver in drivers] == [3, 3], told
    failed = [int(re.search(r"^(\d+) jobs failed", errors, re.MULTILINE)[1]) for _, errors in told]
    assert min(failed) > 1
    assert sum(failed) == JOBS
    assert table(str(work.out), "jobs").collect()["job"].n_unique() == JOBS


@pytest.mark.slow
def test_the_share_of_a_driver_that_is_killed_is_done_by_the_other(tmp_path):
    work = Work(tmp_path)
    first, second = work.start("--join"), work.start("--join")
    work.begin(first, second)
    until(lambda: bool(drivers(place(str(work.out)))[0].knows))
    first.send_signal(signal.SIGKILL)
    first.communicate()
    told = second.communicate(timeout=120)
    assert second.returncode == 0, told
    work.check()
