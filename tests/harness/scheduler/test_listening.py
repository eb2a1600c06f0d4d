"""What Ray's processes of a run on one machine listen on, and what they answer to somebody without a token."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lfombench.harness.driver import doctor
from lfombench.harness.scheduler.private import keep_token_private
from tests.sockets import are_loopback

ROOT = Path(__file__).parents[3]
RUN = """
import json, os, subprocess, sys
from lfombench.harness.scheduler.attached import Attached
from tests.sockets import listening

attached = Attached(None, 1)
ray = attached.ray
print(sorted(name for name in os.environ if name.startswith("RAY_ENABLE_")))

@ray.remote
class Worker:
    def ready(self):
        return True

worker = Worker.remote()
ray.get(worker.ready.remote())
print(json.dumps(listening(os.getpid())))
address = ray.get_runtime_context().gcs_address
ask = [sys.executable, "-c", "import sys; from ray._raylet import GcsClient; "
       "GcsClient(address=sys.argv[1]).internal_kv_keys(b'', None)", address]
for mode in ("token", "disabled"):
    asked = subprocess.run(ask, env=os.environ | {"RAY_AUTH_MODE": mode}, capture_output=True, text=True)
    print(json.dumps([asked.returncode, asked.stderr[-500:]]))
attached.close()
"""


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_all_of_a_local_ray_is_on_loopback_and_asks_for_a_token(tmp_path: Path):
    environment = {name: value for name, value in os.environ.items() if name != "RAY_AUTH_MODE"}
    done = subprocess.run(
        [sys.executable, "-c", RUN], env=environment | {"HOME": str(tmp_path)}, capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    left, listens, *answers = done.stdout.splitlines()
    assert left == "[]"  # nothing that would keep this process from joining a cluster afterwards
    assert len(json.loads(listens)) > 5
    assert are_loopback(json.loads(listens)), listens
    (with_token, _), (without, said) = map(json.loads, answers)
    assert with_token == 0
    assert without != 0
    assert "token" in said.lower() or "unauthenticated" in said.lower(), said
    token = tmp_path / ".ray" / "auth_token"
    assert token.stat().st_mode & 0o077 == 0  # Ray alone makes one that all can read


def test_a_token_that_others_can_read_is_made_private(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_AUTH_MODE")
    file = tmp_path / ".ray" / "auth_token"
    file.parent.mkdir()
    file.write_text("theirs")
    file.chmod(0o644)
    assert doctor.token().verdict == "look"
    keep_token_private()
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("theirs", 0o600)
    assert doctor.token().verdict == "ok"


@pytest.mark.parametrize(
    ("name", "value"), [("RAY_AUTH_MODE", "disabled"), ("RAY_AUTH_TOKEN", "x"), ("RAY_AUTH_TOKEN_PATH", "/nowhere")]
)
def test_who_wants_no_token_or_gives_one_gets_none(name, value, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_AUTH_MODE")
    monkeypatch.setenv(name, value)
    keep_token_private()
    assert not list(tmp_path.iterdir())
