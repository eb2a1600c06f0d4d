"""MLflow itself, imported when it is needed, as that takes seconds: quiet, and impatient with servers, which are asked
again elsewhere.
"""

from __future__ import annotations

import logging
import os


def prepare() -> None:
    """Import MLflow, limit how long it waits for a server and what it says."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    import mlflow  # noqa: F401 - which sets levels of its own

    for name in ("mlflow", "alembic", "urllib3"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
