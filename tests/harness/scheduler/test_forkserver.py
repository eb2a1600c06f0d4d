"""Workers that are forks: each is as Ray would have it, and where nothing can be forked one starts all the same."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lfombench.harness.scheduler import forked
from lfombench.harness.scheduler.forkserver import SIZE, possible, start
from tests.machine import NOBODY, elsewhere, python, users_needed

pytestmark = [
    pytest.mark.skipif(not possible(), reason="this system forks no workers"),
    pytest.mark.xdist_group("fork server"),
]

WORKER = """\
import json, os, sys
print(json.dumps({
    "process": os.getpid(), "parent": os.getppid(), "group": os.getpgid(0), "words": sys.argv, "path": sys.path,
    "imported": "torch" in sys.modules, "name": __name__, "folder": os.getcwd(), "variables": dict(os.environ),
    "pressing": [os.nice(0), int(open("/proc/self/oom_score_adj").read())],
    "files": sorted(os.listdir("/proc/self/fd")),
}), flush=True)
print("and an error", file=sys.stderr)
"""


class Server(NamedTuple):
    """A fork server."""

    name: str
    process: int


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that stands where Ray's worker would: as deep, so that there is a folder of packages above it."""
    folder = tmp_path_factory.mktemp("packages") / "ray" / "_private" / "workers"
    folder.mkdir(parents=True)
    (folder / "worker.py").write_text(WORKER)
    return folder / "worker.py"


@pytest.fixture(scope="module")
def server(worker: Path) -> Iterator[Server]:
    """One that starts when it is first asked, and ends with its Ray."""
    name = f"lfombench-tests-{os.getpid()}"
    with subprocess.Popen(["sleep", "1000"]) as ray:
        said = started(worker, LFOMBENCH_FORKSERVER=name, RAY_RAYLET_PID=str(ray.pid))
        assert said["imported"]
        yield Server(name, said["parent"])
        ray.kill()
    assert gone(said["parent"])


def started(worker: Path, *words: str, **variables: str) -> dict[str, Any]:
    """What a worker says that is started as Ray starts one."""
    command = ["nice", "-n", "3", "sh", "-c", 'echo 500 >/proc/self/oom_score_adj; exec "$@"', "sh"]
    command += [sys.executable, "-P", "-c", forked.CODE, str(worker), *words]
    done = subprocess.run(
        command, env=os.environ | variables, cwd=worker.parent, capture_output=True, text=True, timeout=100
    )
    assert (done.returncode, done.stderr) == (0, "and an error\n"), done.stderr
    return dict(json.loads(done.stdout))


def test_a_fork_is_what_ray_would_have_started(server, worker):
    """Its words, variables, folder, outputs and urgency; but what it stands on is there already."""
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(worker.parents[1])]))
    said = started(worker, "--one", "ä b", LFOMBENCH_FORKSERVER=server.name, PYTHONPATH=path)
    assert said["imported"]
    assert said["parent"] == server.process
    assert said["group"] == said["process"]
    assert (said["words"], said["name"]) == ([str(worker), "--one", "ä b"], "__main__")
    assert said["folder"] == said["path"][0] == str(worker.parent)
    assert str(worker.parents[1]) in said["path"]
    assert said["pressing"] == [os.nice(0) + 3, 500]
    assert said["files"] == ["0", "1", "2", "3"]  # the last is that of the list itself
    plain = started(worker, "--one", "ä b", LFOMBENCH_FORKSERVER="nobody listens there", RAY_RAYLET_PID="none")
    assert not plain["imported"]
    ignored = {"LFOMBENCH_FORKSERVER", "RAY_RAYLET_PID", "PYTHONPATH"}
    for name in ("words", "name", "folder", "pressing", "files"):
        assert plain[name] == said[name]
    assert {name: value for name, value in said["variables"].items() if name not in ignored} == {
        name: value for name, value in plain["variables"].items() if name not in ignored
    }


def test_orders_that_are_cut_or_nonsense_do_no_harm(server, worker):
    for order in (b"", b"12", SIZE.pack(10**9) + b"{", SIZE.pack(2) + b"{}", SIZE.pack(2) + b"no", SIZE.pack(1) + b"5"):
        with socket.socket(socket.AF_UNIX) as link:
            link.connect(f"\0{server.name}")
            link.sendall(order)
            link.shutdown(socket.SHUT_WR)
            link.settimeout(60)
            with contextlib.suppress(ConnectionError):
                assert link.recv(1) == b""
    assert started(worker, LFOMBENCH_FORKSERVER=server.name)["imported"]


def test_who_waits_no_longer_gets_no_fork(server, worker):
    """It has become the worker itself meanwhile: there would be two."""
    order = json.dumps([[str(worker)], {}, "/", 0, "0"]).encode()
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(f"\0{server.name}")
        read, write = os.pipe()
        socket.send_fds(link, [SIZE.pack(len(order))], [write, write, write])
        link.sendall(order)
        assert link.recv(1) == b"1"
        os.close(write)
    with open(read) as output:
        assert output.read() == ""


@users_needed()
def test_other_users_get_nothing_and_are_not_believed(server, worker):
    code = f"""
import socket
link = socket.socket(socket.AF_UNIX)
link.connect("\\0{server.name}")
socket.send_fds(link, [b"12345678"], [0, 1, 2])
print(repr(link.recv(1)))
"""
    done = python(code, user=NOBODY)
    assert done.stdout == "b''\n" or done.stderr.endswith(("reset by peer\n", "Broken pipe\n")), done
    with socket.socket(socket.AF_UNIX) as theirs, tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        copy = shutil.copy(worker, folder)
        theirs.bind(f"\0lfombench-of-a-stranger-{os.getpid()}")
        theirs.listen()
        variables = os.environ | {"LFOMBENCH_FORKSERVER": f"lfombench-of-a-stranger-{os.getpid()}"}
        command = [sys.executable, "-P", "-c", forked.CODE, copy]
        done = elsewhere(command, user=NOBODY, environment=variables, cwd=folder)
        assert not json.loads(done.stdout)["imported"], done
        link, _ = theirs.accept()
        with link:
            assert link.recv(1) == b""  # it was told nothing


def test_one_whose_ray_has_ended_already_ends_at_once():
    with subprocess.Popen(["true"]) as ray:
        pass
    assert start(f"lfombench-late-{os.getpid()}", ray.pid).wait(60) == 0


def test_where_lfombench_is_broken_workers_start_and_can_say_so(worker, tmp_path):
    (tmp_path / "broken" / "lfombench").mkdir(parents=True)
    (tmp_path / "broken" / "lfombench" / "__init__.py").write_text("raise SystemError('half installed')\n")
    assert not started(worker, PYTHONPATH=str(tmp_path / "broken"))["imported"]


def test_other_variables_other_code_another_server(worker, monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_RAYLET_PID", "1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    name = forked._name(worker)
    for variable, value in {"RAY_JOB_ID": "2", "CUDA_VISIBLE_DEVICES": "0", "PYTHONPATH": str(tmp_path)}.items():
        with monkeypatch.context() as patch:
            patch.setenv(variable, value)
            assert forked._name(worker) == name
    for variable, value in {"RAY_RAYLET_PID": "2", "OMP_NUM_THREADS": "7", "PYTHONPATH": "/elsewhere"}.items():
        with monkeypatch.context() as patch:
            patch.setenv(variable, value)
            assert forked._name(worker) != name
    os.utime(worker.parents[3], (1, 1))  # a package was installed
    assert forked._name(worker) != name


def test_a_job_with_a_python_of_its_own_keeps_it(monkeypatch):
    assert forked.runtime_env()
    monkeypatch.setenv(forked.JOB, json.dumps({"runtime_env": {"py_executable": "uv run"}}))
    assert forked.runtime_env() == {}


def gone(process: int) -> bool:
    """Whether a process ends within some seconds."""
    for _ in range(600):
        with contextlib.suppress(ChildProcessError):
            os.waitpid(process, os.WNOHANG)
        try:
            if Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.1)
    return False
