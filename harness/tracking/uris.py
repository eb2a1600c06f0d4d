"""Where MLflow's database and artifacts of a store are, as the URIs that it takes: paths may have any characters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote

from ..errors import UserError
from ..store.filesystem import local

PLAIN = "sqlite:///"
ENCODED = "sqlite+pysqlite:///"  # the same, but MLflow makes no folder of the name that it reads in it


def default_uri(out: str) -> str:
    """The tracking URI of a local store: a SQLite database in its folder. A store on S3 needs a tracking server."""
    path = str(_folder(out) / "mlflow.db")
    for uri in _forms(path):
        if database(uri) == path:
            return uri
    raise UserError(f"MLflow cannot keep its database in {path}; --mlflow names another place, or off")


def artifacts(out: str) -> str:
    """The URI of the folder of artifacts of a local store."""
    return (_folder(out) / "artifacts").as_uri()


def database(uri: str) -> str | None:
    """The path of the SQLite database that a tracking URI means; None where it means none."""
    if not uri.startswith((PLAIN, ENCODED)):
        return None
    from sqlalchemy.engine import make_url

    path = make_url(uri).database
    if path and path.startswith("file:"):  # which SQLite decodes itself
        path = unquote(path.removeprefix("file:").partition("?")[0])
    return path


def _forms(path: str) -> Iterator[str]:
    """The ways to write a path into a URI, of which versions of SQLAlchemy decode one or the other."""
    yield f"{PLAIN}{path}"
    yield f"{ENCODED}{quote(path)}"
    yield f"{ENCODED}file:{quote(path)}?uri=true"
    yield f"{ENCODED}file:{quote(quote(path))}?uri=true"


def _folder(out: str) -> Path:
    folder = local(out)
    assert folder is not None, out
    return folder
