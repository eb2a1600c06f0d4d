"""A store in an object store: a real server that speaks S3, and nothing on the local disk."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from pyarrow import fs

from lfombench.analysis.results import table
from lfombench.harness import PROTOCOLS, Job
from lfombench.harness.spec.job import Case
from lfombench.harness.store.drivers import Pace, drivers
from lfombench.harness.store.filesystem import join, place
from lfombench.harness.store.lease import Held, take
from lfombench.harness.store.store import Store
from lfombench.harness.store.uri import URI
from lfombench.harness.training.execute import execute
from lfombench.harness.training.pack import Pack, WorkOrder
from lfombench.solvers import ConjugateGradient
from lfombench.tasks import LinearRegression
from tests.commands import lfombench, words

pytestmark = pytest.mark.slow
KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """host:port of a server with a bucket."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        files = fs.S3FileSystem(
            access_key="key", secret_key="secret", region="us-east-1", scheme="http",
            endpoint_override=f"127.0.0.1:{port}", allow_bucket_creation=True,
        )  # fmt: skip
        for _ in range(100):
            try:
                files.create_dir("bucket")
                break
            except OSError:
                time.sleep(0.2)
        yield f"127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(10)


PREFIX = "my runs/100%41 #1 ä+&="


def test_keys_are_as_they_read(bucket, server, tmp_path):
    """For the tools of AWS too."""
    import boto3

    place(bucket).put("note", b"1")
    client = boto3.client("s3", endpoint_url=f"http://{server}", region_name="us-east-1")
    listed = client.list_objects_v2(Bucket="bucket", Prefix=f"{PREFIX}/{tmp_path.name}")
    assert [one["Key"] for one in listed["Contents"]] == [f"{PREFIX}/{tmp_path.name}/note"]
    assert place(bucket).read("note") == b"1"
    assert join(f"{bucket}&scheme=http", "x") == f"s3://bucket/{PREFIX}/{tmp_path.name}/x"


@pytest.mark.parametrize(
    ("text", "parts", "encoded"),
    [
        ("s3://b", ("s3", None, None, "b", "", ""), "s3://b/"),
        ("s3://b/a b?x=1", ("s3", None, None, "b", "a b", "x=1"), "s3://b/a%20b?x=1"),
        ("s3://me:a%2Fb@b/p#q", ("s3", "me", "a%2Fb", "b", "p#q", ""), "s3://me:a%2Fb@b/p%23q"),
        ("s3://b/@at", ("s3", None, None, "b", "@at", ""), "s3://b/%40at"),
    ],
)
def test_the_parts_of_a_uri(text, parts, encoded):
    assert URI.of(text) == parts
    assert URI.of(text).encoded == encoded


@pytest.fixture
def bucket(server, tmp_path, monkeypatch) -> str:
    """A URI of an empty prefix, of a name that is a trial for URIs; credentials are in the environment."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    return f"s3://bucket/{PREFIX}/{tmp_path.name}?endpoint_override=http%3A%2F%2F{server.replace(':', '%3A')}"


def test_a_sweep_into_an_object_store(bucket, small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = lfombench("run", str(small), "--workers", "0", "--out", bucket)
    assert first.returncode == 0, first.stderr
    assert "20 jobs in" in first.stdout
    assert f"report: s3://bucket/{PREFIX}/{tmp_path.name}/report/index.html; runs: lfombench ui --out " in first.stdout
    again = lfombench("run", str(small), "--workers", "0", "--out", bucket)
    assert "20 done, 0 to run" in again.stdout
    assert lfombench("status", "--out", bucket).stdout == "small: 20 of 20 jobs done, 0 failed, 0 diverged\n"
    assert "memformer" in lfombench("query", "SELECT DISTINCT solver FROM results", "--out", bucket).stdout
    assert {path.name for path in tmp_path.iterdir()} == {"small.yaml"}
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert "20 written" in lfombench("mlflow", "sync", "--out", bucket).stdout
    assert "no differences" in lfombench("mlflow", "verify", "--out", bucket).stdout
    assert [path.name for path in (tmp_path / "data").rglob("mlflow.db")] == ["mlflow.db"]


def test_of_many_who_create_the_same_file_one_does(bucket):
    here = place(bucket)

    def create(writer: int) -> list[int]:
        return [n for n in range(20) if here.create(f"log/{n}.json", str(writer).encode())]

    with ThreadPoolExecutor(4) as pool:
        won = list(pool.map(create, range(4)))
    assert sorted(n for mine in won for n in mine) == list(range(20))
    for writer, mine in enumerate(won):
        assert all(here.read(f"log/{n}.json") == str(writer).encode() for n in mine)


def test_writers_beside_each_other_commit_every_job_once(bucket):
    """The same packs by three writers at once, none of which has seen what the others commit."""
    case = Case(
        task=LinearRegression(d=2, n=4),
        solver=ConjugateGradient(depth=2),
        protocol=replace(PROTOCOLS["published"], test_prompts=64),
    )
    packs = [Pack(tuple(Job(case, seed) for seed in range(first, first + 2))) for first in range(0, 12, 2)]
    outcomes = [execute(WorkOrder(pack), torch.device("cpu")) for pack in packs]

    stores = [Store(bucket) for _ in range(3)]
    stores[0].create()

    def write(writer: int) -> None:
        for outcome in outcomes[writer:] + outcomes[:writer]:
            stores[writer].commit([outcome])

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(write, range(3)))
    rows = table(bucket, "results").collect()
    assert len(rows) == len(rows.unique(["job", "test", "step"])) == 12 * 3
    assert set(rows["job"]) == {job.id for pack in packs for job in pack.jobs}


def test_a_second_driver_is_refused_until_the_first_is_gone(bucket):
    here = place(bucket)
    with take(here, "fig1"), pytest.raises(Held, match="sweep fig1"):
        take(here, "fig2")
    with take(here, "fig2"):
        assert [driver.sweep for driver in drivers(here)] == ["fig2"]
    assert drivers(here) == []


def test_a_driver_of_another_machine_that_is_silent_is_dead(bucket):
    here = place(bucket)
    with take(here, "fig1"):
        [name] = here.names("drivers")
        found = json.loads(here.read(f"drivers/{name}"))
    here.put(f"drivers/{name}", json.dumps(found | {"machine": "another"}).encode())
    with take(here, "fig2", pace=Pace(0.05, 0.6)):
        assert [driver.sweep for driver in drivers(here)] == ["fig2"]


def test_a_driver_that_is_killed_loses_nothing(bucket, small, tmp_path):
    """kill -9 in the middle, then the same command: every row once, and no lease or checkpoint left."""
    command = ["run", str(small), "--workers", "0", "--out", bucket]
    first = subprocess.Popen(words(*command), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path)
    here = place(bucket)
    while first.poll() is None and not here.names("results"):
        time.sleep(0.01)
    first.kill()
    first.wait()
    again = lfombench(*command)
    assert again.returncode == 0, again.stderr
    rows = table(bucket, "results").collect()
    assert len(rows) == len(rows.unique(["job", "test", "step"]))
    assert rows["job"].n_unique() == 20
    assert here.names("drivers") == here.names("checkpoints") == []
