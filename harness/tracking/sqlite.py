"""MLflow's SQLite database, written to itself."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence

from .rows import Rows
from .view import Refused, Unreachable

CACHE = 64_000  # KB of pages in memory
LOG = 20_000  # pages of 4 KB in the log, after which they are copied into the database
PATIENCE = 60.0  # seconds for another writer to end its transaction


class SQLite:
    """A SQLite database, in WAL mode: who reads is not kept waiting."""

    def __init__(self, path: str) -> None:
        with _errors(path):
            self.connection = sqlite3.connect(path, PATIENCE, isolation_level=None)
            self.connection.execute("PRAGMA synchronous = NORMAL")  # WAL loses the last runs then, if the power fails
            self.connection.execute(f"PRAGMA cache_size = -{CACHE}")
            self.connection.execute(f"PRAGMA wal_autocheckpoint = {LOG}")  # each transaction would copy its pages
        self.path = path

    def rows(self, sql: str, values: Sequence[object] = ()) -> Rows:
        """What a query gives, or nothing."""
        with _errors(self.path):
            return self.connection.execute(sql, tuple(values)).fetchall()

    def fill(self, table: str, columns: Sequence[str], rows: Rows) -> None:
        """Add rows to a table, many at once."""
        with _errors(self.path):
            marks = ", ".join("?" * len(columns))
            self.connection.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", rows)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything in it is done at once or not at all, and of two writers one waits."""
        self.rows("BEGIN IMMEDIATE")
        try:
            yield
            self.rows("COMMIT")
        finally:
            if self.connection.in_transaction:
                self.connection.rollback()

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()


@contextlib.contextmanager
def _errors(path: str) -> Iterator[None]:
    """SQLite's errors as those of a view."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise Unreachable(f"MLflow's database {path}: {error}") from error
    except (sqlite3.Error, OverflowError) as error:
        raise Refused(f"MLflow's database {path}: {error}") from error
