"""A SQLite database for MLflow, made before anybody opens it.

MLflow makes its tables one by one where it finds a database without them: two processes at once stop each other, and
one that is killed leaves a database that no later one can use. So they are made elsewhere, and come as a whole file.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..store.filesystem import place
from .uris import artifacts, database, default_uri


def ready(uri: str) -> None:
    """Make the database that a tracking URI means, unless it is there, and let it be read while it is written. Nothing
    where the URI means no SQLite file; UserError where it cannot be written to.
    """
    path = database(uri)
    if not path or path == ":memory:":
        return
    try:
        if not os.path.exists(path):
            folder, name = os.path.split(os.path.abspath(path))
            place(folder).create(name, _empty(artifacts(folder)))  # another process may have been quicker
        if not os.access(path, os.W_OK):
            raise PermissionError("this user may not write to it")
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode=wal")
    except (OSError, sqlite3.Error) as error:
        raise UserError(
            f"MLflow cannot use {path}: {error}; it must write there, even to show what is there"
        ) from error


def _empty(root: str) -> bytes:
    """A database with MLflow's tables and nothing in them. root: the URI of a folder for artifacts."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    with tempfile.TemporaryDirectory() as folder:
        store: Any = SqlAlchemyStore(default_uri(folder), root)  # type: ignore[no-untyped-call]
        store.engine.dispose()
        return (Path(folder) / "mlflow.db").read_bytes()
