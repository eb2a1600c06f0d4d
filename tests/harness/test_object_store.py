"""A store in an object store: a real server that speaks S3, and nothing on the local disk."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from pyarrow import fs

pytestmark = pytest.mark.slow
KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture
def bucket() -> Iterator[str]:
    """A URI of an empty prefix on a server of its own."""
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
        yield f"s3://bucket/sweeps?endpoint_override=http%3A%2F%2F127.0.0.1%3A{port}"
    finally:
        server.terminate()
        server.wait(10)


def test_a_sweep_into_an_object_store(bucket, small, tmp_path):
    def lfombench(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "lfombench.harness.cli", *arguments, "--out", bucket]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path, env=os.environ | KEYS)

    first = lfombench("run", str(small), "--workers", "0")
    assert first.returncode == 0, first.stderr
    assert "20 jobs in" in first.stdout
    assert "report: s3://bucket/sweeps/report/index.html\n" in first.stdout
    again = lfombench("run", str(small), "--workers", "0")
    assert "20 done, 0 to run" in again.stdout
    assert lfombench("status").stdout == "small: 20 of 20 jobs done, 0 failed, 0 diverged\n"
    assert "memformer" in lfombench("query", "SELECT DISTINCT solver FROM results").stdout
    assert {path.name for path in tmp_path.iterdir()} == {"small.yaml"}
