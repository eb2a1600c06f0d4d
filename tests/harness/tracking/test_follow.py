"""The process that keeps a view equal to its store while a sweep runs; and drivers, servers and itself that die."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from lfombench.harness import load, run
from lfombench.harness.store.store import Store
from lfombench.harness.tracking.follow import Follower
from lfombench.harness.tracking.uris import Where
from tests.commands import lfombench, words
from tests.views import by_job, commit, copied, runs, shown_at, sweep_of, verified

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
)
NOWHERE = "http://user:s3cret@127.0.0.1:9"
DRIVER = """\
import sys, time
from lfombench.harness.tracking.follow import Follower
from lfombench.harness.tracking.uris import where
follower = Follower(sys.argv[1], where(sys.argv[1], None, print))
print(follower.process.pid, flush=True)
time.sleep(100)
"""


def ended(pid: int) -> bool:
    """Whether a process ends within some seconds."""
    for _ in range(200):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def test_what_is_committed_is_shown_when_it_finishes(store):
    follower = Follower(store.out, shown_at(store))
    jobs = commit(store, sweep_of(3))
    follower.finish(lambda one: None)
    assert (follower.error, follower.refused) == (None, {})
    assert by_job(store).keys() == set(jobs)
    assert verified(store).differences == []


def test_it_shows_jobs_while_the_sweep_goes_on(store):
    jobs = commit(store, sweep_of(2))
    follower = Follower(store.out, shown_at(store))
    for _ in range(300):
        if follower.written == 2:
            break
        time.sleep(0.1)
    assert by_job(store).keys() == set(jobs)
    follower.stop()
    assert follower.error is None


def test_a_driver_that_is_killed_leaves_no_process_and_no_run_that_is_running(store):
    """It left a run that is RUNNING, beside the finished one that the next driver made."""
    jobs = commit(store, sweep_of(4))
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, store.out], stdout=subprocess.PIPE, text=True)
    pid = int(driver.stdout.readline())
    time.sleep(random.uniform(0.2, 2.0))
    driver.kill()
    driver.communicate()
    assert ended(pid)
    assert lfombench("mlflow", "sync", "--out", store.out).returncode == 0
    assert by_job(store).keys() == set(jobs)
    assert {one.info.status for one in runs(store) if "job" in one.data.tags} == {"FINISHED"}


def test_writers_that_are_killed_are_taken_up(finished, tmp_path):
    """At any moment: what one has begun is there whole, or not at all."""
    store = copied(finished, tmp_path)
    for delay in (1.3, 1.6, 2.0):
        writer = subprocess.Popen(words("mlflow", "rebuild", "--out", store.out), stderr=subprocess.DEVNULL)
        time.sleep(delay)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        assert {one.info.status for one in runs(store, experiment="small")} <= {"FINISHED"}
    assert lfombench("mlflow", "sync", "--out", store.out).returncode == 0
    assert len(by_job(store, experiment="small")) == 20
    assert verified(store).differences == []


def test_a_server_that_is_not_there_does_not_stop_the_sweep(small, tmp_path):
    begin = time.monotonic()
    out = str(tmp_path / "out")
    summary = run(load(str(small)), out, workers=0, mlflow=NOWHERE)
    assert (summary.done, summary.exit_code) == (20, 0)
    assert "refused" in summary.mlflow_error
    assert "s3cret" not in summary.mlflow_error
    assert time.monotonic() - begin < 60
    assert not (tmp_path / "out" / "mlflow.db").exists()
    done = lfombench("run", str(small), "--out", out, "--workers", "0", "--mlflow", NOWHERE)
    assert done.returncode == 0
    assert "s3cret" not in done.stdout + done.stderr
    assert f"lfombench mlflow sync --out {out} --mlflow" in done.stdout


def test_a_process_that_cannot_start_is_told_of(store, monkeypatch):
    from lfombench.harness.tracking import follow

    commit(store, sweep_of(1))
    monkeypatch.setattr(follow, "COMMAND", [sys.executable, "-c", "raise SystemExit('no luck')"])
    follower = Follower(store.out, shown_at(store))
    follower.finish(lambda one: None)
    assert follower.error == "its process ended: no luck"


def test_a_database_that_cannot_be_one_is_told_of(store, tmp_path):
    commit(store, sweep_of(1))
    (tmp_path / "text.db").write_bytes(b"words" * 1000)
    follower = Follower(store.out, Where(f"sqlite:///{tmp_path}/text.db"))
    follower.finish(lambda one: None)
    assert "text.db: file is not a database" in follower.error


def test_a_run_shows_what_a_killed_one_has_committed(small, tmp_path):
    out = tmp_path / "out"
    command = words("run", str(small), "--out", str(out), "--workers", "0")
    driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not any((out / "results").glob("*.parquet")) and driver.poll() is None:
        time.sleep(0.02)
    driver.kill()
    driver.wait()
    summary = run(load(str(small)), str(out), workers=0)
    assert (summary.done, summary.mlflow_error) == (20, None)
    store = Store(str(out))
    assert len(by_job(store, experiment="small")) == 20
    assert verified(store).differences == []
