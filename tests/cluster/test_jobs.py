"""A real cluster on this machine: a head with its dashboard, a sweep submitted, followed, listed and stopped."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from lfombench.analysis.results import table
from tests.buckets import s3
from tests.commands import lfombench, process, words
from tests.nodes import Head
from tests.relay import Relay

pytestmark = [
    *(pytest.mark.slow, pytest.mark.xdist_group("ray")),
    pytest.mark.filterwarnings("ignore:ssl=None is deprecated:DeprecationWarning"),  # Ray's, of its own connections
]


def jobs_done(out: Path | str) -> int:
    return table(str(out), "results").collect()["job"].n_unique()


def seen_by_others(head: Head) -> list[str]:
    """Where the passphrase shows: in the list of processes, or in what the cluster tells of its jobs."""
    told = {str(path): path.read_bytes() for path in readable(Path("/proc").glob("[0-9]*/cmdline"))}
    with urllib.request.urlopen(f"{head.dashboard}/api/jobs/") as answer:
        told["jobs"] = answer.read()
    return [name for name, content in told.items() if b"sesame" in content]


def readable(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        with contextlib.suppress(OSError):
            path.read_bytes()
            yield path


def test_a_sweep_is_submitted_stopped_and_continued_by_submitting_it_again(head, tmp_path):
    """With a solver of one's own, sent along, that waits until it may go on, beside what could be taken for others."""
    out, go = tmp_path / "out", tmp_path / "go"
    (tmp_path / "code").mkdir()
    for trap in ("torch.py", "polars.py", "tasks.py"):
        (tmp_path / "code" / trap).write_text(f"raise SystemExit('{trap} was imported')\n")
    (tmp_path / "code" / "patient.py").write_text(
        "import dataclasses, os, pathlib, time\n"
        "from lfombench.solvers import ConjugateGradient\n"
        "@dataclasses.dataclass(frozen=True, kw_only=True)\n"
        "class Patient(ConjugateGradient):\n"
        "    def iterates(self, params, problem):\n"
        "        assert os.environ['PASSPHRASE'] == 'open sesame', 'a worker lacks it'\n"
        f"        while not pathlib.Path({str(go)!r}).exists():\n"
        "            time.sleep(0.1)\n"
        "        print('it may go on')\n"
        "        yield from super().iterates(params, problem)\n"
    )
    sweep = tmp_path / "patience.yaml"
    sweep.write_text(
        "name: patience\nseeds: 2\n"
        "protocol: {use: rigorous, test_prompts: 256}\n"
        "tasks: [linear_regression: {d: 3, n: 8}]\n"
        "solvers: [conjugate_gradient: {depth: 2}, 'patient:Patient': {depth: {each: [1, 2]}}]\n"
    )
    (tmp_path / "env").write_text("PASSPHRASE='open sesame'\n")
    there = ["--address", head.dashboard]
    arguments = ["submit", str(sweep), *there, "--out", str(out), "--mlflow", "off", "--code", str(tmp_path / "code")]
    arguments += ["--env-file", str(tmp_path / "env"), "--max-failures", "0"]
    name = "patience-1"
    with subprocess.Popen(words(*arguments, "--name", name), stdout=subprocess.PIPE, text=True) as client:
        told = [client.stdout.readline(), client.stdout.readline()]
        client.kill()  # the job goes on without whoever submitted it
    assert "4 files" in told[0]
    assert told[1].startswith(f"submitted {name};")
    twice = lfombench(*arguments, "--no-wait", "--name", "patience-1")
    assert "has a job of that name" in twice.stderr
    deadline = time.monotonic() + 120
    while not list(out.glob("results/*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert seen_by_others(head) == []
    stopped = lfombench("stop", name, *there)
    assert stopped.returncode == 0, stopped.stderr
    followed = lfombench("logs", name, *there, "--follow")
    assert followed.returncode == 0
    assert "6 jobs, 0 done, 6 to run" in followed.stdout
    assert jobs_done(out) == 2, followed.stdout
    with Relay(int(head.dashboard.rpartition(":")[2])) as relay:
        arguments[arguments.index(head.dashboard)] = f"http://127.0.0.1:{relay.port}"
        again = subprocess.Popen(words(*arguments), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        with again, contextlib.ExitStack() as over:
            over.callback(again.kill)
            shown = ""
            while "4 to run" not in shown:
                line = again.stdout.readline()
                assert line, again.stderr.read()
                shown += line
            relay.cut()
            go.touch()
            deadline = time.monotonic() + 60
            while jobs_done(out) < 6 and time.monotonic() < deadline:
                time.sleep(0.1)
            relay.mend()
            rest, errors = again.communicate(timeout=120)
            shown += rest
    assert again.returncode == 0, shown + errors
    assert "trying again" in errors
    name = shown.split("submitted ")[1].split(";")[0]
    log = lfombench("logs", name, *there).stdout
    assert "6 jobs, 2 done, 4 to run" in log
    assert "4/4 jobs" in log
    assert shown.partition("\n")[2].partition("\n")[2] == f"{log}{name}: succeeded\n"  # once, and whole
    printed = lfombench("logs", name, *there, "--workers")
    assert printed.returncode == 0, printed.stderr
    assert re.search(r"-- Worker on [\d.]+, process \d+, dead\n", printed.stdout)
    assert "it may go on" in printed.stdout
    assert jobs_done(out) == 6
    assert name.startswith("patience-20")
    listed = json.loads(lfombench("jobs", *there, "--json").stdout)
    states = {job["name"]: (job["status"], job["sweep"], job["out"]) for job in listed}
    assert states[name] == ("SUCCEEDED", "patience", str(out))
    assert states["patience-1"] == ("STOPPED", "patience", str(out))
    table = lfombench("jobs", *there).stdout
    assert table.index(name) < table.index("patience-1")
    (tmp_path / "wrong.yaml").write_text(sweep.read_text().replace("depth: 2", "deep: 2"))
    wrong = lfombench("submit", str(tmp_path / "wrong.yaml"), *there, "--out", str(out), "--name", "wrong")
    assert (wrong.returncode, "'deep'" in wrong.stderr) == (2, True), wrong.stderr
    assert "wrong" not in [job["name"] for job in json.loads(lfombench("jobs", *there, "--json").stdout)]
    unknown = lfombench("stop", "nothing", *there)
    assert unknown.returncode == 1
    assert "no job 'nothing'" in unknown.stderr
    assert name in unknown.stderr


TOKEN, WRONG = "a" * 40, "b" * 40
FORGET = "import sys\nsys.meta_path[:] = [each for each in sys.meta_path if 'editable' not in repr(each)]\n"


@pytest.fixture
def without_lfombench(tmp_path) -> dict[str, str]:
    """An environment in which Python does not find it."""
    (tmp_path / "forgets").mkdir()
    (tmp_path / "forgets" / "sitecustomize.py").write_text(FORGET)
    found = {"PYTHONPATH": str(tmp_path / "forgets")}
    command = [sys.executable, "-c", "import lfombench.harness"]
    done = subprocess.run(command, env=os.environ | found, capture_output=True, text=True, cwd=tmp_path)
    assert "No module named 'lfombench" in done.stderr, done
    return found


def test_a_token_that_is_missing_or_wrong_is_asked_for_and_a_dead_head_is_named(
    quick, tmp_path, without_lfombench, monkeypatch
):
    """Each was a fault of lfombench. And a cluster that has none gets one with the job, whose store is in a bucket."""
    asks = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
    none = os.environ | {"RAY_AUTH_MODE": "disabled"}
    with Head(tmp_path, **asks, **without_lfombench) as guarded:
        there = ("--address", guarded.dashboard)
        missing = process("jobs", *there, env=none)
        assert missing.returncode == 1
        assert "asks for a token, and was given none. Set RAY_AUTH_MODE=token" in missing.stderr
        wrong = process("jobs", *there, env=none | asks | {"RAY_AUTH_TOKEN": WRONG})
        assert "does not accept the token that it was given" in wrong.stderr
        assert not {TOKEN, WRONG} & {*missing.stderr.split(), *wrong.stderr.split()}
        right = process("jobs", *there, env=none | asks)
        assert right.returncode == 0, right.stderr
        joined = process("run", str(quick), "--address", guarded.address, "--out", str(tmp_path / "out"), env=none)
        assert joined.returncode == 1
        assert "token" in joined.stderr
        with s3() as cloud:
            out, names = cloud.uri("sent"), [word for name in cloud.environment for word in ("--env", name)]
            sent = ("submit", str(quick), *there, "--wheel", "--out", out, "--mlflow", "off", *names)
            done = process(*sent, env=none | asks | cloud.environment)
            assert done.returncode == 0, done.stdout + done.stderr
            for name, value in cloud.environment.items():
                monkeypatch.setenv(name, value)
            assert jobs_done(out) == 20
    dead = process("logs", "x", *there, env=none)
    assert dead.returncode == 1
    assert "nothing listens at 127.0.0.1:" in dead.stderr
    assert "Is the head up?" in dead.stderr
    for done in (missing, wrong, joined, dead):
        assert "fault of lfombench" not in done.stderr


@pytest.mark.parametrize(("address", "port"), [("http://127.0.0.1", 80), ("https://127.0.0.1", 443)])
def test_an_address_without_a_port_means_that_of_its_scheme(address, port):
    """It meant 8265."""
    done = lfombench("jobs", "--address", address)
    assert done.returncode == 1
    assert f"nothing listens at 127.0.0.1:{port} " in done.stderr
