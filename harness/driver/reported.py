"""A run from Python, which leaves a report as the command does: `lfombench.run`."""

from __future__ import annotations

import logging
from typing import Any

from ..spec.loader import load
from ..spec.sweep import Sweep
from ..store.filesystem import place
from ..store.manifest import manifests
from .experiments import publish
from .reports import write_report
from .run import Summary
from .run import run as plain_run

log = logging.getLogger("lfombench")


def run(sweep: Sweep | str, out: str, **options: Any) -> Summary:
    """Run what a sweep still lacks in the store at `out`, a folder or a prefix in `s3://`, `gs://` or `az://`, and
    leave its report there, as the command does.

    sweep: a `Sweep`, a file, or the name of a shipped sweep. options: fields of `lfombench.harness.driver.run.Options`,
    by name: address, workers, mlflow, audit, and more. Raises `UserError` for whatever the user can put right.
    """
    loaded = load(sweep) if isinstance(sweep, str) else sweep
    summary = plain_run(loaded, out, **options)
    try:
        write_report(out, manifests(place(out), loaded.name))
    except Exception as error:  # the sweep is done all the same
        log.warning("the report is missing: %s: %s", type(error).__name__, error)
    problem = summary.mlflow_error or publish(out, manifests(place(out), loaded.name), options.get("mlflow"))
    if problem:
        log.warning("MLflow does not show everything: %s", problem)
    return summary
