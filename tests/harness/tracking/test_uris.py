"""A store in a folder of any name has its MLflow database and its artifacts there, and nowhere else."""

from __future__ import annotations

import os

import pytest

from lfombench.harness.tracking.database import ready
from lfombench.harness.tracking.uris import artifacts, database, default_uri

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
