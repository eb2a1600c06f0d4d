"""MLflow's PostgreSQL database, written to itself, by COPY."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from typing import Any

from ..redact import redacted
from .rows import Rows
from .view import Refused, Unreachable

PATIENCE = 20  # seconds for the server to answer at the start
LOCK = 5_271_009  # of the writers of this kind: lfombench's own
ESCAPED = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"})


class PostgreSQL:
    """A PostgreSQL database, through psycopg2."""

    def __init__(self, uri: str) -> None:
        import psycopg2
        from sqlalchemy.engine import make_url

        self.uri = uri
        with _errors(uri):
            url = make_url(uri)
            words, options = url.get_dialect()().create_connect_args(url)
            self.connection = psycopg2.connect(*words, **{"connect_timeout": PATIENCE, **options})
            self.connection.autocommit = True

    def rows(self, sql: str, values: Sequence[object] = ()) -> Rows:
        """What a query gives, or nothing."""
        with _errors(self.uri), self.connection.cursor() as cursor:
            cursor.execute(sql.replace("%", "%%").replace("?", "%s"), tuple(values))
            return cursor.fetchall() if cursor.description else []

    def fill(self, table: str, columns: Sequence[str], rows: Rows) -> None:
        """Add rows to a table by COPY."""
        text = io.StringIO("".join(map(_line, rows)))
        with _errors(self.uri), self.connection.cursor() as cursor:
            cursor.copy_expert(f"COPY {table} ({', '.join(columns)}) FROM STDIN", text)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything in it is done at once or not at all, and of two writers one waits."""
        self.rows("BEGIN")
        try:
            self.rows("SELECT pg_advisory_xact_lock(?)", [LOCK])
            yield
            self.rows("COMMIT")
        finally:
            if self.connection.info.transaction_status:  # neither committed nor lost with the connection
                with contextlib.suppress(Unreachable, Refused):
                    self.rows("ROLLBACK")

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()


def _line(row: tuple[Any, ...]) -> str:
    """A row as COPY reads it."""
    return "\t".join(["\\N" if x is None else str(x).translate(ESCAPED) for x in row]) + "\n"


@contextlib.contextmanager
def _errors(uri: str) -> Iterator[None]:
    """The database's errors as those of a view, without passwords."""
    import psycopg2
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
        raise Unreachable(redacted(f"{uri}: {_said(error)}", uri)) from error
    except (psycopg2.Error, SQLAlchemyError, ValueError) as error:
        raise Refused(redacted(f"{uri}: {_said(error)}", uri)) from error


def _said(error: Exception) -> str:
    return " ".join(str(error).split())
