"""A store in a bucket of each cloud: real servers that speak their languages, and nothing on the local disk."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from lfombench.analysis.results import table
from lfombench.harness import PROTOCOLS, Job
from lfombench.harness.errors import UserError
from lfombench.harness.spec.job import Case
from lfombench.harness.store.clouds import _region
from lfombench.harness.store.drivers import Pace, drivers
from lfombench.harness.store.filesystem import join, place
from lfombench.harness.store.lease import Held, take
from lfombench.harness.store.store import Store
from lfombench.harness.store.uri import URI
from lfombench.harness.training.execute import execute
from lfombench.harness.training.pack import Pack, WorkOrder
from lfombench.solvers import ConjugateGradient
from lfombench.tasks import LinearRegression
from tests.buckets import AZURITE, BUCKET, CLOUDS, Cloud
from tests.commands import lfombench, words

pytestmark = pytest.mark.slow
PREFIX = "my runs/100%41 #1 ä+&="
KINDS = [
    pytest.param("s3"),
    pytest.param("gs"),
    pytest.param("az", marks=pytest.mark.skipif(not AZURITE.exists(), reason="azurite, from npm, is not installed")),
]
OTHERS = [KINDS[0], KINDS[2]]  # the servers that share no code


@pytest.fixture(scope="module", params=KINDS)
def cloud(request) -> Iterator[Cloud]:
    """A cloud with a bucket."""
    with CLOUDS[request.param]() as started:
        yield started


@pytest.fixture
def bucket(cloud, tmp_path, monkeypatch) -> str:
    """A URI of an empty prefix, of a name that is a trial for URIs; credentials are in the environment."""
    for name, value in cloud.environment.items():
        monkeypatch.setenv(name, value)
    return cloud.uri(f"{PREFIX}/{tmp_path.name}")


def test_keys_are_as_they_read(tmp_path, monkeypatch):
    """For the tools of AWS too."""
    import boto3

    with CLOUDS["s3"]() as cloud:
        for name, value in cloud.environment.items():
            monkeypatch.setenv(name, value)
        bucket = cloud.uri(f"{PREFIX}/{tmp_path.name}")
        place(bucket).put("note", b"1")
        client = boto3.client("s3", endpoint_url=cloud.address)
        listed = client.list_objects_v2(Bucket=BUCKET, Prefix=f"{PREFIX}/{tmp_path.name}")
        assert [one["Key"] for one in listed["Contents"]] == [f"{PREFIX}/{tmp_path.name}/note"]
        assert place(bucket).read("note") == b"1"
        assert join(f"{bucket}&scheme=http", "x") == f"s3://bucket/{PREFIX}/{tmp_path.name}/x"
        assert _region(BUCKET, cloud.address) == "us-east-1"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("s3://b", ("s3", None, None, "b", "", "")),
        ("s3://b/a b?x=1", ("s3", None, None, "b", "a b", "x=1")),
        ("s3://me:a%2Fb@b/p#q", ("s3", "me", "a%2Fb", "b", "p#q", "")),
        ("s3://b/@at", ("s3", None, None, "b", "@at", "")),
    ],
)
def test_the_parts_of_a_uri(text, parts):
    assert URI.of(text) == parts


@pytest.mark.parametrize(
    ("out", "says"),
    [
        ("gcs://bucket/x", r"--out gcs://bucket/x: .*allowed: az, gs, s3; did you mean 'gs'\?"),
        ("file:///x", "give the folder itself, without file://"),
        ("s3:///x", "names no bucket: s3://BUCKET/PREFIX"),
        ("s3://b/x?regoin=eu-west-1", r"\?regoin=...: no such option; allowed: .*did you mean 'region'\?"),
        ("gs://b/x?region=eu", "allowed: endpoint_override, scheme"),
        ("az://b/x", r"names no storage account: set AZURE_STORAGE_ACCOUNT_NAME, or add \?account=NAME"),
        ("s3://b/x", r"no credentials for S3 are where AWS's tools look: AWS_ACCESS_KEY_ID .*AWS_SKIP_SIGNATURE=true"),
    ],
)
def test_what_is_no_bucket_or_lacks_something_is_said(out, says, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in [name for name in os.environ if name.startswith(("AWS_ACCESS", "AWS_PROFILE", "AZURE_"))]:
        monkeypatch.delenv(name)
    with pytest.raises(UserError, match=says):
        place(out).read("store.json")


def test_credentials_are_those_of_a_profile(monkeypatch, tmp_path):
    """As AWS's own tools read it."""
    file = tmp_path / "credentials"
    file.write_text("[lab]\naws_access_key_id = key\naws_secret_access_key = secret\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_PROFILE", "lab")
    with CLOUDS["s3"]() as cloud:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", cloud.address)
        here = place("s3://bucket/prefix")
        assert here.create("x", b"1")
        assert here.read("x") == b"1"


def test_an_object_is_read_in_parts(bucket):
    here = place(bucket)
    assert here.kind() is None
    assert here.sizes("log") == {}
    here.put("log/b", b"0123456789")
    here.put("log/a", b"")
    assert here.kind() == "folder"
    assert here.sizes("log") == {"a": 0, "b": 10}
    assert here.within("log").names("") == ["a", "b"]
    opened, buffer = here.open("log/b"), bytearray(3)
    opened.read_into(memoryview(buffer), 2)
    assert (bytes(buffer), opened.size) == (b"234", 10)
    with pytest.raises(OSError, match="ends before byte 11"):
        opened.read_into(memoryview(buffer), 8)
    with pytest.raises(FileNotFoundError, match="log/c"):
        here.open("log/c")
    here.delete("log/b")
    here.delete("log/b")
    assert (here.size("log/b"), here.read("log/b"), here.names("log")) == (None, None, ["a"])


def test_a_bucket_that_is_not_there_is_named(bucket, small):
    done = lfombench("run", str(small), "--workers", "0", "--out", bucket.replace("bucket", "nobucket", 1))
    assert done.returncode == 1
    assert "nobucket" in done.stderr
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("cloud", OTHERS[:1], indirect=True)
def test_a_sweep_into_an_object_store(bucket, cloud, small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = lfombench("run", str(small), "--workers", "0", "--out", bucket)
    assert first.returncode == 0, first.stderr
    assert "20 jobs in" in first.stdout
    shown = f"{cloud.scheme}://bucket/{PREFIX}/{tmp_path.name}"
    assert f"report: {shown}/report/index.html; runs: lfombench ui --out " in first.stdout
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


@pytest.mark.parametrize("cloud", OTHERS, indirect=True)
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
