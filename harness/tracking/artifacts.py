"""Files of a run: written to a folder of this machine directly, elsewhere through MLflow."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ..store.filesystem import place
from .uris import redacted
from .view import Refused


def keep_artifacts(uri: str, run: str, folder: str, files: Mapping[str, bytes]) -> None:
    """Write files, by name, as artifacts of a run. uri: the tracking store. folder: where that has the run's. Refused
    where they cannot be written there, as to a folder of the tracking server's machine.
    """
    try:
        if folder.startswith(("file:", "/")):
            at = place(unquote(urlsplit(folder).path) if folder.startswith("file:") else folder)
            for name, content in files.items():
                at.put(name, content)
        else:
            _log(uri, run, files)
    except Exception as error:  # each kind of artifact store has its own
        raise Refused(redacted(f"files cannot be written to {folder}: {error}", uri)) from error


def _log(uri: str, run: str, files: Mapping[str, bytes]) -> None:
    from .library import prepare

    prepare()
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    with tempfile.TemporaryDirectory() as temporary:
        for name, content in files.items():
            (Path(temporary) / name).write_bytes(content)
        client.log_artifacts(run, temporary)
