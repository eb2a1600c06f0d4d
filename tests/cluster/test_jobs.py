"""A real cluster on this machine: a head with its dashboard, a sweep submitted, followed, listed and stopped."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray")]
RAY = str(Path(sys.executable).parent / "ray")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def head(tmp_path_factory) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Addresses of the dashboard and of Ray itself, and the environment to reach them with."""
    folder = tmp_path_factory.mktemp("cluster")
    environment = os.environ | {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    environment |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    gcs, dashboard, agent = free_port(), free_port(), free_port()
    command = [RAY, "start", "--head", "--block", f"--port={gcs}", "--node-ip-address=127.0.0.1", "--num-cpus=2"]
    command += ["--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}"]
    command += ["--object-store-memory=100000000", "--disable-usage-stats"]
    sockets = tempfile.mkdtemp(prefix="ray")  # jobs join the latest Ray of a folder; a socket's path must be short
    command += [f"--temp-dir={sockets}"]
    with (folder / "head.log").open("wb") as log:
        process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        address = f"http://127.0.0.1:{dashboard}"
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            assert process.poll() is None, (folder / "head.log").read_text()
            try:
                with urllib.request.urlopen(f"{address}/api/jobs/", timeout=2):
                    break
            except OSError:
                time.sleep(0.5)
        yield address, f"127.0.0.1:{gcs}", environment
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # never `ray stop`: it ends every Ray of the user
        process.wait()
        shutil.rmtree(sockets, ignore_errors=True)


def lfombench(environment, *arguments: str, timeout: float = 200) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lfombench", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment)


def jobs_done(out: Path) -> int:
    return pl.read_parquet(out / "results" / "*.parquet")["job"].n_unique()


def test_submit_runs_a_sweep_and_shows_its_log(head, small, tmp_path):
    dashboard, _, environment = head
    out = tmp_path / "out"
    done = lfombench(environment, "submit", str(small), "--address", dashboard, "--out", str(out), "--mlflow", "off")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "20 jobs, 0 done, 20 to run" in done.stdout
    assert "20/20 jobs" in done.stdout
    assert "succeeded" in done.stdout
    assert jobs_done(out) == 20
    name = done.stdout.split("submitted ")[1].split(";")[0]
    assert "20/20 jobs" in lfombench(environment, "logs", name, "--address", dashboard).stdout
    unknown = lfombench(environment, "stop", "nothing", "--address", dashboard)
    assert unknown.returncode == 1
    assert "no job 'nothing'" in unknown.stderr
    assert name in unknown.stderr


def test_a_stopped_job_is_continued_by_submitting_it_again(head, tmp_path):
    """With a solver of one's own, sent along, that waits until it may go on."""
    dashboard, _, environment = head
    out, go = tmp_path / "out", tmp_path / "go"
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "patient.py").write_text(
        "import dataclasses, pathlib, time\n"
        "from lfombench.solvers import ConjugateGradient\n"
        "@dataclasses.dataclass(frozen=True, kw_only=True)\n"
        "class Patient(ConjugateGradient):\n"
        "    def iterates(self, params, problem):\n"
        f"        while not pathlib.Path({str(go)!r}).exists():\n"
        "            time.sleep(0.1)\n"
        "        yield from super().iterates(params, problem)\n"
    )
    sweep = tmp_path / "patience.yaml"
    sweep.write_text(
        "name: patience\nseeds: 2\n"
        "protocol: {use: rigorous, test_prompts: 256}\n"
        "tasks: [linear_regression: {d: 3, n: 8}]\n"
        "solvers: [conjugate_gradient: {depth: 2}, 'patient:Patient': {depth: {each: [1, 2]}}]\n"
    )
    arguments = ["submit", str(sweep), "--address", dashboard, "--out", str(out), "--mlflow", "off"]
    arguments += ["--code", str(tmp_path / "code")]
    started = lfombench(environment, *arguments, "--no-wait")
    assert started.returncode == 0, started.stderr
    name = started.stdout.split("submitted ")[1].split(";")[0]
    deadline = time.monotonic() + 120
    while not list(out.glob("results/*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.1)
    stopped = lfombench(environment, "stop", name, "--address", dashboard)
    assert stopped.returncode == 0, stopped.stderr
    followed = lfombench(environment, "logs", name, "--address", dashboard, "--follow")
    assert followed.returncode == 0
    assert jobs_done(out) == 2, followed.stdout
    go.touch()
    again = lfombench(environment, *arguments)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "6 jobs, 2 done, 4 to run" in again.stdout
    assert jobs_done(out) == 6


def test_run_joins_the_cluster_at_its_address(head, small, tmp_path):
    _, address, environment = head
    done = lfombench(
        environment, "run", str(small), "--address", address, "--out", str(tmp_path / "out"), "--mlflow", "off"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert jobs_done(tmp_path / "out") == 20
