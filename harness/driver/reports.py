"""The report of a store, left beside its tables."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from ..store.filesystem import join, place
from ..store.manifest import Manifest, manifests

if TYPE_CHECKING:
    from ..spec.sweep import Sweep
    from .run import Summary

log = logging.getLogger("lfombench")
PATH = "report/index.html"


def write_report(out: str, sweeps: list[Manifest]) -> str:
    """Write the report of these sweeps into their store; return the path of the report."""
    from lfombench.analysis.report import render

    html = render(out, sweeps)
    try:
        place(out).put(PATH, html.encode())
    except OSError as error:
        raise UserError(f"the report cannot be written to {out}: {error}") from error
    return join(out, PATH)


def run_and_report(sweep: Sweep | str, out: str, **options: Any) -> Summary:
    """Run what a sweep still lacks in the store at `out`, a folder or `s3://bucket/prefix`, and leave its report there,
    as the command does.

    sweep: a `Sweep`, a file, or the name of a shipped sweep. options: fields of `lfombench.harness.driver.run.Options`,
    by name: address, workers, mlflow, audit, and more. Raises `UserError` for whatever the user can put right.
    """
    from ..spec.loader import load
    from .run import run

    loaded = load(sweep) if isinstance(sweep, str) else sweep
    summary = run(loaded, out, **options)
    try:
        write_report(out, manifests(place(out), loaded.name))
    except Exception as error:  # the sweep is done all the same
        log.warning("the report is missing: %s: %s", type(error).__name__, error)
    return summary
