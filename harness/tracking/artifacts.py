"""Files of a run: written to a folder of this machine directly, elsewhere through MLflow."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ..redact import redacted
from ..store.filesystem import place
from .view import Refused


def keep_artifacts(uri: str, run: str, folder: str, files: Mapping[str, bytes], own: str | None = None) -> None:
    """Write files, by name, as artifacts of a run. uri: the tracking store. folder: where that has the run's. own: the
    folder of artifacts in a store that it is part of, if so: links there are not followed. Refused where they cannot be
    written, as to a folder of the tracking server's machine.
    """
    try:
        if path := _local(folder):
            store = os.path.dirname(_local(own) or "") if own else ""
            at = place(store).within(os.path.relpath(path, store)) if store else place(path)
            for name, content in files.items():
                at.put(name, content)
        else:
            _log(uri, run, files)
    except Exception as error:  # each kind of artifact store has its own
        raise Refused(redacted(f"files cannot be written to {folder}: {error}", uri)) from error


def are_there(folder: str) -> bool:
    """Whether files stand where a run has its own; where only a server can tell, they are taken to."""
    path = _local(folder)
    return path is None or bool(place(path).names(""))


def _local(folder: str) -> str | None:
    """The path of a folder of artifacts, if it is on this machine."""
    if folder.startswith("file:"):
        return unquote(urlsplit(folder).path)
    return folder if folder.startswith("/") else None


def _log(uri: str, run: str, files: Mapping[str, bytes]) -> None:
    from .library import prepare

    prepare()
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    with tempfile.TemporaryDirectory() as temporary:
        for name, content in files.items():
            (Path(temporary) / name).write_bytes(content)
        client.log_artifacts(run, temporary)
