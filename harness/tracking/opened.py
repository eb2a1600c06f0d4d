"""Open a view: a database of a schema that was tried is written to itself, everything else through MLflow's client."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import time
from collections.abc import Callable, Iterator

from ..store import lease
from ..store.place import Place
from . import database
from .client import ClientView
from .sql import Connection, SqlView
from .uris import POSTGRESQL, SERVED, Where
from .uris import database as path_of
from .view import View

FOLDER = "mlflow"  # of the store: its id, and who writes to which view
TABLES = {
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'table'",
    "postgresql": "SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema()",
}
Tell = Callable[[str], None]


def open_view(where: Where, store: str, tell: Tell) -> View:
    """The view at a tracking URI. store: the id of the store that is to be shown there. tell: shows the user a message.
    UserError where the tracking store cannot be one.
    """
    database.ready(where.uri, where.artifacts or where.otherwise)
    path = path_of(where.uri)
    if not path and not where.uri.startswith(POSTGRESQL):
        return ClientView(where, store)
    connection, kind = _connection(where, path)
    with contextlib.ExitStack() as unless_used:
        unless_used.callback(connection.close)
        tables = {name for (name,) in connection.rows(TABLES[kind])}
        if not tables:
            ClientView(where, store)  # which has MLflow make them
            tables = {name for (name,) in connection.rows(TABLES[kind])}
            connection.rows(database.FIRST_PLACE, [f"{SERVED}/0"])  # not the working directory
        if database.is_known(connection, tables, where.shown):
            unless_used.pop_all()
            return SqlView(connection, store, where)
    tell(f"{where.shown}: its schema is not one that rows can be written to; MLflow's client is slower")
    return ClientView(where, store)


def _connection(where: Where, path: str | None) -> tuple[Connection, str]:
    if path:
        from .sqlite import SQLite

        return SQLite(path), "sqlite"
    from .postgresql import PostgreSQL

    return PostgreSQL(where.uri), "postgresql"


def identity(of: Place) -> str:
    """The id of a store, which tells its runs from those of others; it is made the first time. One that cannot be
    written to is known by where it is.
    """
    name = f"{FOLDER}/id"
    with contextlib.suppress(OSError):
        of.create(name, secrets.token_hex(8).encode())
        if found := of.read(name):
            return found.decode(errors="replace").strip()
    return hashlib.blake2b(of.root.encode(), digest_size=8).hexdigest()


@contextlib.contextmanager
def alone(at: Place, where: Where, tell: Tell, give_up: Callable[[], bool]) -> Iterator[None]:
    """Be the only one that reconciles this store with this view: wait for who does so now, or give up with `Held`. Who
    may not write to the store does it all the same; each run is written whole, and the next reconciliation mends what
    two of them made.
    """
    of = hashlib.blake2b(where.uri.encode(), digest_size=6).hexdigest()
    try:
        held = _take(at.within(f"{FOLDER}/{of}"), where.shown, tell, give_up)
    except OSError:
        yield
        return
    with held:
        yield


def _take(at: Place, shown: str, tell: Tell, give_up: Callable[[], bool]) -> lease.Lease:
    has_told = False
    while True:
        try:
            return lease.take(at, "mlflow", tell=silent)
        except lease.Held as error:
            if give_up():
                raise lease.Held(f"somebody else writes to {shown} now") from error
            if not has_told:
                tell(f"somebody else writes to {shown} now: waiting")
                has_told = True
            time.sleep(0.5)


def silent(text: str) -> None:
    """Tell nobody."""
