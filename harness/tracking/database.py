"""Databases of MLflow's: made before anybody opens them, looked at before anybody writes to them.

MLflow makes its tables one by one, in 8 seconds, and two processes that do so at once stop each other; one that is
killed leaves a database that no later one can use. So an empty SQLite database is made once for each version of MLflow
and kept in the cache; a store's comes as a whole file. On the same occasion it is tried whether rows that `sql.py`
writes read back through MLflow's public interface as they should: only then are databases of that schema written to.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import sqlite3
import tempfile
import zlib
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..store.filesystem import place
from . import fitted, rows, shown, sql
from .library import prepare
from .shown import Dataset, Shown
from .sql import Connection, SqlView
from .sqlite import SQLite
from .uris import Where, artifacts, database, default_uri

SQLITE = b"SQLite format 3\0"
FIRST_PLACE = "UPDATE experiments SET artifact_location = ? WHERE experiment_id = 0"
REVISION = "SELECT version_num FROM alembic_version"
log = logging.getLogger("lfombench")


def ready(uri: str, root: str | None = None) -> None:
    """Make the database that a tracking URI means, unless it is there, and let it be read while it is written. Nothing
    where the URI means no SQLite file; UserError where it cannot be written to. root: the URI of a folder for
    artifacts; by default beside it.
    """
    path = database(uri)
    if not path or path == ":memory:":
        return
    try:
        if not os.path.exists(path):
            folder, name = os.path.split(os.path.abspath(path))
            if not os.path.isdir(folder):
                raise FileNotFoundError(f"there is no folder {folder}")
            place(folder).create(name, _made(root or artifacts(folder)))  # another process may have been quicker
        if not os.access(path, os.W_OK):
            raise PermissionError("this user may not write to it")
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode=wal")
    except (OSError, sqlite3.Error) as error:
        raise UserError(
            f"MLflow cannot use {path}: {error}; it must write there, even to show what is there"
        ) from error


def is_known(connection: Connection, tables: set[str], shown_uri: str) -> bool:
    """Whether rows may be written to a database itself: its schema is the one that was tried. UserError where it holds
    something else than MLflow's tables. tables: the names of those that it has.
    """
    if tables and "experiments" not in tables:
        raise UserError(f"{shown_uri} is a database of something else: it has tables, and none of MLflow's")
    if "alembic_version" not in tables:
        return False
    found = connection.rows(REVISION)
    return bool(found) and found[0][0] == tried()


def tried() -> str | None:
    """The revision of MLflow's schema to which rows can be written; None where a trial failed."""
    return _prepared()[0]


def _made(root: str) -> bytes:
    """A database with MLflow's tables and nothing in them. root: the URI of a folder for artifacts."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mlflow.db"
        path.write_bytes(_prepared()[1])
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute(FIRST_PLACE, [f"{root}/0"])
        return path.read_bytes()


@functools.cache
def _prepared() -> tuple[str | None, bytes]:
    """The revision that was tried, if that went well, and an empty database: from the cache, or made now."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    kept, name = place(os.environ.get("LFOMBENCH_CACHE") or f"{base}/lfombench"), _name()
    with contextlib.suppress(OSError, ValueError, IndexError):
        head, _, content = (kept.read(name) or b"").partition(b"\n")
        if content.startswith(SQLITE) and zlib.crc32(content) == int(head.split()[0]):
            return head.split()[1].decode().removeprefix("-") or None, content
    revision, empty = _make()
    with contextlib.suppress(OSError):  # made again the next time
        kept.put(name, b"%d -%s\n%s" % (zlib.crc32(empty), (revision or "").encode(), empty))
    return revision, empty


def _make() -> tuple[str | None, bytes]:
    """Make an empty database, and try ours on a copy of it."""
    log.info("preparing MLflow's database, once for this version of it")
    prepare()
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    with tempfile.TemporaryDirectory() as folder:
        uri, path = default_uri(folder), Path(folder) / "mlflow.db"
        store: Any = SqlAlchemyStore(uri, artifacts(folder))  # type: ignore[no-untyped-call]
        store.engine.dispose()
        empty = path.read_bytes()
        with closing(sqlite3.connect(path)) as connection:
            [(revision,)] = connection.execute(REVISION).fetchall()
        return (revision if _works(uri, str(path)) else None), empty


def _works(uri: str, path: str) -> bool:
    """Whether a run that is written to a database itself reads back through MLflow as it should."""
    from mlflow import MlflowClient

    run = Shown(
        job="job",
        name="name",
        status="FINISHED",
        begin=1,
        end=2,
        tags={"job": "job", "mlflow.runName": "name", "lfombench.shows": "store job x"},
        params={"a": "1"},
        metrics={("loss", 1): 2.0, ("loss", 2): float("nan"), ("mse", 0): float("inf")},
        dataset=Dataset("task", "digest", "{}", "{}"),
    )
    try:
        view = SqlView(SQLite(path), "store", Where(uri))
        experiment = view.open("trial")
        for _ in range(2):
            view.write(experiment, [run], {})
        view.close()
        client = MlflowClient(tracking_uri=uri)
        [found] = client.search_runs([experiment], "params.a = '1' and metrics.mse > 0")
        history = {m.step: m.value for m in client.get_metric_history(found.info.run_id, "loss")}
        [dataset] = found.inputs.dataset_inputs if found.inputs else []
        return (
            (found.info.status, found.info.start_time, found.info.end_time) == ("FINISHED", 1, 2)
            and found.data.tags == run.tags
            and found.data.params == run.params
            and found.data.metrics["mse"] == fitted.LARGEST
            and found.data.metrics["loss"] != found.data.metrics["loss"]
            and history[1] == 2.0
            and len(history) == 2
            and dataset.dataset.name == "task"
            and found.info.artifact_uri.endswith(f"{found.info.run_id}/artifacts")
        )
    except Exception as error:  # whatever a later MLflow does with tables that it did not write
        log.warning("MLflow %s does not read what is written to its tables: %s", version("mlflow"), error)
        return False


def _name() -> str:
    """The name of an entry of the cache: it depends on MLflow, and on what writes to its tables."""
    sources = b"".join(Path(module.__file__ or "").read_bytes() for module in (sql, rows, shown, fitted))
    return f"mlflow-{version('mlflow')}-{hashlib.blake2b(sources, digest_size=6).hexdigest()}"
