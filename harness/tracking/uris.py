"""Tracking URIs: which one a store is shown at, and where its database and artifacts are. Paths may have any
characters; no password is ever shown.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from ..errors import UserError, nearest
from ..redact import redacted
from ..store.filesystem import local

PLAIN = "sqlite:///"
ENCODED = "sqlite+pysqlite:///"  # the same, but MLflow makes no folder of the name that it reads in it
POSTGRESQL = "postgresql+psycopg2://"
SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql", "databricks")
VARIABLE = "MLFLOW_TRACKING_URI"
DATABASE = "mlflow.db"
SERVED = "mlflow-artifacts:"  # the root of artifacts that a tracking server hands out, as it does by default
APP = "lfombench"  # the name of `app.py` among the applications that MLflow can serve
STORE = "LFOMBENCH_UI_STORE"  # a variable of the environment: the store whose report that shows
SERVER = "LFOMBENCH_UI_SERVER"  # another: the name by which its parent knows it


@dataclass(frozen=True)
class Where:
    """A tracking store. artifacts: where new experiments keep theirs; None where the tracking store says.
    otherwise: where they do if that has said nothing, or what only a server can write to.
    """

    uri: str
    artifacts: str | None = None
    otherwise: str | None = None

    @property
    def shown(self) -> str:
        """The URI without its password; the path of a database whose name a URI has encoded."""
        path = database(self.uri) if self.uri.startswith(ENCODED) else None
        return path or redacted(self.uri, self.uri)

    @property
    def address(self) -> str | None:
        """The address of a server's pages, without a user; None where it is none."""
        parts = urlsplit(self.uri)
        if parts.scheme not in ("http", "https"):
            return None
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")


def where(out: str, given: str | None, tell: Callable[[str], None], always: bool = False) -> Where | None:
    """Where a store is shown: at the URI that `--mlflow` gives, or MLFLOW_TRACKING_URI in the environment, or in a
    database in its folder. None where it is off, or where nothing is given for a store that is in a bucket or belongs
    to somebody else; if it is to be shown always, in a database of this user's own. tell: shows the user a message.
    """
    named = os.environ.get(VARIABLE, "").strip()
    if given == "off":
        return None
    if given is not None:
        if named and named != given:
            tell(f"--mlflow {redacted(given, given)} counts, not {VARIABLE}={redacted(named, named)}")
        return _given(normal(given), out)
    if named:
        tell(f"runs are shown at {redacted(named, named)}, as {VARIABLE} says")
        return _given(normal(named, VARIABLE), out)
    folder = local(out)
    if folder is not None and (not folder.exists() or _writable(folder)):
        return Where(default_uri(out), artifacts(out))
    if not always:
        return None
    own = str(_own(out))
    try:
        os.makedirs(own, exist_ok=True)
    except OSError as error:
        raise UserError(f"{own} cannot be made for MLflow's database: {error}; --mlflow names another place") from error
    return Where(default_uri(own), artifacts(own))


def _given(uri: str, out: str) -> Where:
    """A tracking store that the user names. A server has a place for artifacts; beside a database we choose one."""
    if urlsplit(uri).scheme in ("http", "https", "databricks") or uri == "databricks":
        return Where(uri)
    if path := database(uri):
        return Where(uri, otherwise=artifacts(os.path.dirname(os.path.abspath(path))))
    return Where(uri, otherwise=artifacts(out if local(out) else str(_own(out))))


def normal(uri: str, source: str = "--mlflow") -> str:
    """A tracking URI as MLflow and its libraries take it; UserError where it is none."""
    scheme, mark, rest = uri.partition("://")
    kind = scheme.partition("+")[0].lower()
    if not mark and uri.partition(":")[0] != "databricks":
        raise UserError(f"{source} {uri}: a tracking store is http://HOST:PORT, sqlite:///FILE or postgresql://...")
    if scheme.lower() in ("postgres", "postgresql"):
        if importlib.util.find_spec("psycopg2") is None:
            raise UserError(f"{source} {redacted(uri, uri)}: PostgreSQL needs psycopg2: install lfombench[postgresql]")
        return POSTGRESQL + rest
    if mark and kind not in SCHEMES:
        hint = nearest(kind, SCHEMES)
        raise UserError(f"{source} {redacted(uri, uri)}: {kind}:// is no kind of tracking store; {hint}")
    if kind in ("http", "https") and not urlsplit(uri).hostname:
        raise UserError(f"{source} {redacted(uri, uri)} names no host: http://HOST:PORT")
    if kind == "sqlite" and database(uri) in (None, "", ":memory:"):
        raise UserError(f"{source} {uri} names no file: sqlite:///FILE, or sqlite:////FILE with a path from the root")
    return uri


def default_uri(out: str) -> str:
    """The tracking URI of a local store: a SQLite database in its folder."""
    path = str(_folder(out) / DATABASE)
    for file in (path, *(f"{path}-{kind}" for kind in ("wal", "shm", "journal"))):  # SQLite would write through links
        if os.path.islink(file):
            raise UserError(f"{file} is a link; where a store links to nothing is written: put the file itself there")
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


def _writable(folder: Path) -> bool:
    """Whether this user may write to a store's folder, and to MLflow's database there, if there is one."""
    path = folder / DATABASE
    return os.access(folder, os.W_OK) and (not path.exists() or os.access(path, os.W_OK))


def _own(out: str) -> Path:
    """A folder of this user for the view of a store that is not on this machine."""
    base = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return Path(base) / "lfombench" / hashlib.blake2b(out.rstrip("/").encode(), digest_size=8).hexdigest()


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
