"""Making MLflow's database: by several processes at once, or killed in the middle."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from lfombench.harness.errors import UserError
from lfombench.harness.tracking import database as database_module
from lfombench.harness.tracking.database import ready
from lfombench.harness.tracking.uris import default_uri
from tests.machine import NOBODY, elsewhere, users_needed

OPEN = """\
import sys
import mlflow.store.tracking.sqlalchemy_store
from lfombench.harness.tracking.database import ready
print("ready", flush=True)
sys.stdin.readline()
ready(sys.argv[1])
"""


def opening(uri: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", OPEN, uri]
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True)


def go(driver: subprocess.Popen[str]) -> None:
    driver.stdin.write("go\n")
    driver.stdin.flush()


def tables(path: Path) -> int:
    """The number of tables that a database has so far."""
    with contextlib.suppress(sqlite3.OperationalError), closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM sqlite_master WHERE type = 'table'").fetchone()[0])
    return 0


@pytest.mark.slow
def test_drivers_that_begin_together_make_one_database(tmp_path, monkeypatch):
    """MLflow made its tables in each, and all but one ended with `table ... already exists`."""
    monkeypatch.setenv("LFOMBENCH_CACHE", str(tmp_path / "cache"))  # nothing is prepared there
    (tmp_path / "out").mkdir()
    uri = default_uri(str(tmp_path / "out"))
    drivers = [opening(uri) for _ in range(2)]
    for driver in drivers:
        assert driver.stdout.readline() == "ready\n"
    for driver in drivers:
        go(driver)
    told = [driver.communicate(timeout=100)[0] for driver in drivers]
    assert [driver.returncode for driver in drivers] == [0] * 2, told
    with closing(sqlite3.connect(tmp_path / "out" / "mlflow.db")) as connection:
        assert connection.execute("SELECT name FROM experiments").fetchall() == [("Default",)]
    assert {path.name.partition("-")[0] for path in (tmp_path / "out").iterdir()} == {"mlflow.db"}


@pytest.mark.slow
def test_a_driver_that_is_killed_while_it_opens_leaves_none_or_a_whole_one(tmp_path, monkeypatch):
    """What it left had half of the tables, and no later driver could go on from there."""
    out, temporary = tmp_path / "out", tmp_path / "temporary"
    out.mkdir(), temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setenv("LFOMBENCH_CACHE", str(tmp_path / "cache"))
    uri = default_uri(str(out))
    driver = opening(uri)
    assert driver.stdout.readline() == "ready\n"
    go(driver)
    while not any(tables(path) > 20 for path in tmp_path.rglob("mlflow.db")):
        time.sleep(0.01)
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    assert opening(uri).communicate("go\n", timeout=100)[0] == "ready\n"
    assert tables(out / "mlflow.db") > 20


@pytest.mark.parametrize("uri", ["http://127.0.0.1:1", "sqlite://", "sqlite:///:memory:", "postgresql://h/d"])
def test_there_is_no_file_to_make(tmp_path, monkeypatch, uri):
    monkeypatch.chdir(tmp_path)
    ready(uri)
    assert os.listdir(tmp_path) == []


def test_a_path_from_here_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ready("sqlite:///runs.db")
    with closing(sqlite3.connect("runs.db")) as connection:
        default = connection.execute("SELECT artifact_location FROM experiments").fetchall()
    assert default == [(f"{(tmp_path / 'artifacts').as_uri()}/0",)]
    before = Path("runs.db").read_bytes()
    ready("sqlite:///runs.db")
    assert Path("runs.db").read_bytes() == before


@pytest.mark.parametrize("content", [b"some words" * 1000, None], ids=["text", "folder"])
def test_what_cannot_be_its_database_is_named(tmp_path, content):
    path = tmp_path / "mlflow.db"
    path.write_bytes(content) if content else path.mkdir()
    with pytest.raises(UserError, match=r"MLflow cannot use .*mlflow\.db: "):
        ready(default_uri(str(tmp_path)))


@users_needed()
def test_another_users_store_is_shown_in_a_database_of_ones_own(finished):
    """MLflow must write, even to show what is there: it could not be shown."""
    command = [sys.executable, "-m", "lfombench", "mlflow", "sync", "--out", "/mnt/out"]
    mounts = ["mount -t tmpfs tmpfs /mnt", f"cp -r {finished} /mnt/out", "chmod -R a+rX /mnt", "chmod a+rwX /mnt"]
    environment = os.environ | {"XDG_DATA_HOME": "/mnt/data", "LFOMBENCH_CACHE": "/mnt/cache"}
    told = elsewhere(command, mounts=mounts, user=NOBODY, cwd="/", environment=environment)
    assert told.returncode == 0, told.stderr
    assert re.search(r"sqlite:////mnt/data/lfombench/\w+/mlflow.db shows 20 runs: 20 written", told.stdout)


def test_what_is_prepared_is_kept_and_made_again_where_it_is_damaged(tmp_path, monkeypatch):
    """A folder that lets no code run is good enough, and one that cannot be written to is no obstacle."""
    made: list[int] = []

    def make() -> tuple[str, bytes]:
        made.append(1)
        return "revision", database_module.SQLITE + b"x"

    monkeypatch.setattr(database_module, "_make", make)
    for folder, times in ((tmp_path / "cache", [1]), (tmp_path / "file" / "cache", [1, 1])):
        (tmp_path / "file").touch()
        monkeypatch.setenv("LFOMBENCH_CACHE", str(folder))
        made.clear()
        for _ in range(2):
            database_module._prepared.cache_clear()
            assert database_module._prepared() == ("revision", database_module.SQLITE + b"x")
        assert made == times
    monkeypatch.setenv("LFOMBENCH_CACHE", str(tmp_path / "cache"))
    [kept] = (tmp_path / "cache").iterdir()
    for content in (b"", b"nonsense", kept.read_bytes()[:-1], b"1 -x\n" + database_module.SQLITE):
        kept.write_bytes(content)
        made.clear()
        database_module._prepared.cache_clear()
        database_module._prepared()
        assert made == [1], content
    database_module._prepared.cache_clear()
