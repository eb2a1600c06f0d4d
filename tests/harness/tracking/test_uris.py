"""A store in a folder of any name has its MLflow database and its artifacts there, and nowhere else."""

from __future__ import annotations

import os

import pytest

from lfombench.harness.redact import redacted
from lfombench.harness.tracking.database import ready
from lfombench.harness.tracking.uris import Where, artifacts, database, default_uri, where

NAMES = [
    "plain",
    "with space",
    "a%41",
    "100%",
    "#1",
    "what?",
    "a&b=c;d",
    "café",
    "%2F",
    "a+b",
    "file:x",
    "'q'",
    "[1]",
    "@",
    "a:b@c",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_database_is_where_its_uri_says(tmp_path, name):
    """As SQLAlchemy opens it, which is what MLflow does."""
    from sqlalchemy import create_engine, text

    folder = tmp_path / name
    folder.mkdir()
    uri = default_uri(str(folder))
    assert database(uri) == str(folder / "mlflow.db")
    (folder / "mlflow.db").touch()
    ready(uri)
    engine = create_engine(uri)
    with engine.begin() as connection:
        connection.execute(text("create table t (x int)"))
        assert connection.execute(text("pragma journal_mode")).scalar() == "wal"
    engine.dispose()
    assert os.listdir(tmp_path) == [name]
    assert "mlflow.db" in os.listdir(folder)


def test_mlflow_writes_there_too(tmp_path):
    from mlflow import MlflowClient

    name = "a%41 #1? é&="
    (tmp_path / name).mkdir()
    out = str(tmp_path / name)
    client = MlflowClient(tracking_uri=default_uri(out))
    run = client.create_run(client.create_experiment("one", artifact_location=artifacts(out))).info.run_id
    client.log_text(run, "hello", "note.txt")
    assert client.list_artifacts(run)[0].path == "note.txt"
    assert os.listdir(tmp_path) == [name]
    assert {"mlflow.db", "artifacts"} <= set(os.listdir(out))


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("sqlite:////a/b.db", "/a/b.db"),
        ("sqlite:///b.db?timeout=5", "b.db"),
        ("http://here:5000", None),
        ("sqlite://", None),
    ],
)
def test_the_database_that_a_uri_means(uri, path):
    assert database(uri) == path


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("http://me:s3cret@host:5000/x", "s3cret"),
        ("postgresql://me:s3%40cret@h/d?password=s3cret&x=1", "s3"),
        ("could not connect to postgresql+psycopg2://me:s3cret@h/d and token=s3cret", "s3cret"),
        ("https://h/?access_token=s3cret", "s3cret"),
    ],
)
def test_no_secret_is_left_in_a_text(text, secret):
    assert secret not in redacted(text)
    assert secret not in redacted(f"it said: {text}", text)


def test_a_password_is_removed_wherever_it_stands_and_however_it_is_written():
    uri = "postgresql://me:s3%40cret@h/d"
    assert redacted("FATAL: password s3@cret or s3%40cret for me", uri) == "FATAL: password *** or *** for me"
    assert redacted("nothing to hide: http://h:5000/x", "http://h:5000/x") == "nothing to hide: http://h:5000/x"


@pytest.mark.parametrize(
    ("given", "named", "uri"),
    [
        ("http://a", "", "http://a"),
        ("http://a", "http://b", "http://a"),
        (None, "http://b", "http://b"),
        ("off", "http://b", None),
    ],
)
def test_an_option_counts_more_than_the_environment(tmp_path, monkeypatch, given, named, uri):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", named)
    told: list[str] = []
    found = where(str(tmp_path), given, told.append)
    assert (found.uri if found else None) == uri
    assert bool(told) == (bool(named) and given != "off")


def test_a_store_that_is_not_here_is_shown_in_a_database_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert where("s3://bucket/x", None, print) is None
    found = where("s3://bucket/x", None, print, always=True)
    other = where("s3://bucket/y", None, print, always=True)
    assert str(tmp_path) in found.uri
    assert found != other
    assert where("s3://bucket/x/", None, print, always=True) == found


def test_the_address_of_a_server_has_no_user():
    assert Where("https://me:s3cret@host:5000/mlflow/").address == "https://host:5000/mlflow"
    assert Where("sqlite:////a.db").address is None
