"""What MLflow shows of a sweep beside its runs: what it asks, the head of its board, how to run it again, a report."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from ..errors import UserError
from ..store.filesystem import join, place
from ..store.manifest import Manifest
from ..tracking import contents
from ..tracking.opened import alone, identity, open_view, silent
from ..tracking.page import Page
from ..tracking.sync import Told, Work, sync
from ..tracking.uris import Where
from ..tracking.uris import where as where_shown
from ..tracking.view import View
from .reports import PATH

HEAD = 14  # lines of a board in a description: the head, the rule and the first methods
PATIENCE = 30.0  # seconds that a run waits for somebody else who reconciles
LONGEST = 12_000  # characters of a description; MLflow takes 20,000

Tell = Callable[[str], None]


def show(
    out: str, sweeps: Sequence[Manifest], where: Where, tell: Tell, told: Told, anew: bool = False, wait: bool = True
) -> Work:
    """Make a view equal to its store, and describe these sweeps. tell: shows the user a message. wait: for others that
    do so now, instead of raising `Held`. The rest as of `sync`.
    """
    at = place(out)
    with alone(at, where, tell, lambda: not wait), opened(out, where, tell) as view:
        work = sync(at, identity(at), view, told, anew)
        try:
            describe(out, sweeps, view, work.digests, anew)
        except UserError as error:
            tell(f"the runs are shown, but not what is said of their sweep: {error}")
    return work


def describe(
    out: str, sweeps: Sequence[Manifest], view: View, digests: Mapping[str, str] | None = None, anew: bool = False
) -> None:
    """Write the descriptions and the summary runs of sweeps, from what is committed. digests: of all jobs, if they are
    known. anew: whatever is there.
    """
    at = place(out)
    report, digests = at.read(PATH), contents.digests(at) if digests is None else digests
    for manifest in sweeps:
        if shown := [digests[job] for job in manifest.jobs if job in digests]:
            mark = hashlib.blake2b(repr((shown, manifest.content, report)).encode(), digest_size=10).hexdigest()
            if anew or view.described(manifest.name) != mark:
                view.describe(manifest.name, page(out, manifest, report, mark))


def publish(out: str, sweeps: Sequence[Manifest], mlflow: str | None) -> str | None:
    """Describe sweeps after a run, where it is shown in MLflow, if it is. Why they are not described, if they are not:
    whatever is in the way, the sweep is done. mlflow: the value of `--mlflow`.
    """
    try:
        where = where_shown(out, mlflow, silent)
        if where:
            end = time.monotonic() + PATIENCE
            with alone(place(out), where, silent, lambda: time.monotonic() > end), opened(out, where, silent) as view:
                describe(out, sweeps, view)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


@contextlib.contextmanager
def opened(out: str, where: Where, tell: Tell) -> Iterator[View]:
    """The view of a store, which is closed at the end."""
    view = open_view(where, identity(place(out)), tell)
    try:
        yield view
    finally:
        view.close()


def page(out: str, manifest: Manifest, report: bytes | None, mark: str) -> Page:
    """What the experiment of a sweep says of it. mark: changes with it."""
    from lfombench.analysis.formats import as_csv, markdown  # here, as mostly nothing is to be written
    from lfombench.analysis.pages import page_of, written
    from lfombench.analysis.results import Tables

    board = page_of(Tables(out), manifest)
    head = "\n".join(markdown(board.sheets[0]).strip().splitlines()[:HEAD]) if board.sheets else ""
    again = f"lfombench run {manifest.name} --out DIR" + (" # DIR: any folder" if "://" not in out else "")
    parts = [
        manifest.about or f"The sweep {manifest.name}.",
        head,
        "Lower is better: natural log of the mean squared error at the query. The whole board and the report are files "
        "of the run *summary: board and report*.",
        f"Run it again:\n\n```\n{again}\n```",
        f"Store: `{join(out, '')}`; every number here is in its Parquet files, and this view is made from them.",
    ]
    text = "\n\n".join(part for part in parts if part)
    files = {
        "board.md": written(board, "markdown").encode(),
        "board.csv": as_csv([board.boards]).encode(),
    }
    return Page(mark, text[:LONGEST], files | ({"report.html": report} if report else {}))
