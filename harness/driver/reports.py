"""The report of a store, left beside its tables."""

from __future__ import annotations

from ..errors import UserError
from ..store.filesystem import join, place
from ..store.manifest import Manifest

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
