"""Several drivers on one store."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lfombench.analysis.results import table
from lfombench.harness.scheduler.sharing import Shares
from lfombench.harness.store.filesystem import place
from lfombench.harness.store.lease import Pace, drivers, take
from lfombench.harness.store.manifest import Manifest, path_of
from lfombench.harness.store.store import Store

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


def command(sweep: Path, out: Path, *options: str) -> list[str]:
    run = [sys.executable, "-m", "lfombench", "run", str(sweep), "--out", str(out)]
    return [*run, "--workers", "0", "--mlflow", "off", *options]


def start(sweep: Path, out: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(sweep, out, *options), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=sweep.parent
    )


JOBS = 16


@pytest.fixture
def long(tmp_path) -> Path:
    """16 jobs in as many packs, of half a second or so each."""
    (tmp_path / "slow.py").write_text(
        "import dataclasses, time\n"
        "from lfombench.solvers import ConjugateGradient\n"
        "@dataclasses.dataclass(frozen=True, kw_only=True)\n"
        "class Slow(ConjugateGradient):\n"
        "    def iterates(self, params, problem):\n"
        "        time.sleep(0.25)\n"
        "        yield from super().iterates(params, problem)\n"
    )
    path = tmp_path / "long.yaml"
    path.write_text(
        "name: long\n"
        "protocol: {use: published, test_prompts: 64}\n"
        "tasks: [linear_regression: {d: 3, n: 6}]\n"
        f"solvers: ['slow:Slow': {{depth: {{each: [{', '.join(map(str, range(1, JOBS + 1)))}]}}}}]\n"
    )
    return path


def finished(out: Path) -> None:
    """Every job once, in all tables; nobody there any more."""
    for name, key in (("results", ["job", "test", "step"]), ("jobs", ["job"])):
        rows = table(str(out), name).collect()
        assert rows["job"].n_unique() == JOBS, name
        assert len(rows) == len(rows.unique(key)), name
    assert drivers(place(str(out))) == []


def until(true, seconds=60.0) -> None:
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert true()


@pytest.mark.slow
def test_two_drivers_share_a_sweep_and_no_job_runs_twice(long, tmp_path):
    out = tmp_path / "out"
    first = start(long, out)
    until(lambda: drivers(place(str(out))))
    refused = subprocess.run(command(long, out), capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert refused.returncode == 1
    assert f"process {first.pid}" in refused.stderr
    assert "--join, to work beside it" in refused.stderr
    second = start(long, out, "--join")
    told = [process.communicate(timeout=120) for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], "".join(errors for _, errors in told)
    assert "the share of other drivers" in told[1][0]
    ran = [int(re.search(r"^(\d+) jobs in", text, re.MULTILINE)[1]) for text, _ in told]
    assert sum(ran) == JOBS
    assert min(ran) > 1
    finished(out)


@pytest.mark.slow
def test_drivers_do_not_wait_for_each_others_failures(tmp_path):
    """Nor try them again."""
    (tmp_path / "vain.py").write_text(
        "import dataclasses, time\n"
        "from lfombench.solvers import ConjugateGradient\n"
        "@dataclasses.dataclass(frozen=True, kw_only=True)\n"
        "class Vain(ConjugateGradient):\n"
        "    def iterates(self, params, problem):\n"
        "        time.sleep(0.5)\n"
        "        raise ValueError('in vain')\n"
    )
    (tmp_path / "vain.yaml").write_text(
        "name: vain\n"
        "protocol: {use: published, test_prompts: 64}\n"
        "tasks: [linear_regression: {d: 3, n: 9}]\n"
        "solvers: ['vain:Vain': {depth: {each: [" + ", ".join(map(str, range(1, 17))) + "]}}]\n"
    )
    out = tmp_path / "out"
    first = start(tmp_path / "vain.yaml", out)
    until(lambda: drivers(place(str(out))))
    second = start(tmp_path / "vain.yaml", out, "--join")
    told = [process.communicate(timeout=120) for process in (first, second)]
    assert [first.returncode, second.returncode] == [3, 3], told
    failed = [int(re.search(r"^(\d+) jobs failed", errors, re.MULTILINE)[1]) for _, errors in told]
    assert min(failed) > 2
    assert table(str(out), "jobs").collect()["job"].n_unique() == 16
    assert sum(failed) == 16


@pytest.mark.slow
def test_the_share_of_a_driver_that_is_killed_is_done_by_the_other(long, tmp_path):
    out = tmp_path / "out"
    first = start(long, out)
    until(lambda: drivers(place(str(out))))
    second = start(long, out, "--join")
    until(lambda: len(drivers(place(str(out)))) == 2 and drivers(place(str(out)))[0].knows)
    time.sleep(0.5)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    told = second.communicate(timeout=120)
    assert second.returncode == 0, told
    finished(out)
