"""Commands for the MLflow view of a store: `ui`, and the group `mlflow`."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Sequence
from shlex import quote
from typing import TYPE_CHECKING

import click

from ..errors import UserError
from ..signals import listen
from .options import ALLOW_CODE, JSON, OUT
from .sweeps import known_sweeps

if TYPE_CHECKING:
    from ..store.manifest import Manifest
    from ..tracking.sync import Work
    from ..tracking.uris import Where

URI = click.option(
    "--mlflow",
    metavar="URI",
    help="A tracking store: http://HOST:PORT, sqlite:///FILE, postgresql://... [default: SQLite in the store]",
)
EVERY = 2.0  # seconds between two lines of progress
SHOWN = 20  # differences that are printed


@click.group(name="mlflow")
def group() -> None:
    """Keep MLflow equal to a store: `run` does so by itself; these commands do it for stores that ran elsewhere."""


@group.command()
@OUT
@URI
@JSON
def sync(out: str, mlflow: str | None, as_json: bool) -> None:
    """Write what MLflow lacks of a store, and what has changed there; nothing else."""
    _show(out, mlflow, as_json, anew=False)


@group.command()
@OUT
@URI
@JSON
def rebuild(out: str, mlflow: str | None, as_json: bool) -> None:
    """Write all runs of a store anew. Runs of others are not touched."""
    _show(out, mlflow, as_json, anew=True)


@group.command()
@OUT
@URI
@JSON
def verify(out: str, mlflow: str | None, as_json: bool) -> None:
    """Compare every value that MLflow shows with the store. Exit code 3 where something differs."""
    from ..driver.experiments import opened
    from ..store.drivers import drivers
    from ..store.filesystem import place
    from ..tracking.opened import identity
    from ..tracking.verify import verify as compare

    listen(signal.SIGTERM)
    where, line = _where(out, mlflow), _Line()
    known_sweeps(out, None)
    with opened(out, where, _tell) as view:
        found = compare(
            place(out), identity(place(out)), view, lambda done, of: line.show(f"{done} of {of} runs", done, of)
        )
    if as_json:
        differences = [vars(one) for one in found.differences]
        click.echo(json.dumps({"runs": found.runs, "differences": differences, "shortened": found.shortened}, indent=1))
    else:
        for one in found.differences[:SHOWN]:
            click.echo(f"{one.sweep}, job {one.job}: {one.what}")
        if len(found.differences) > SHOWN:
            click.echo(f"and {len(found.differences) - SHOWN} more; --json has all")
        for mark, begin in found.shortened.items():
            click.echo(f"shortened for MLflow, whole in the tags lfombench.full.{mark}.*: {begin}")
        click.echo(f"{found.runs} runs compared at {where.shown}: {len(found.differences) or 'no'} differences")
        if found.differences and drivers(place(out)):
            click.echo("a run works on this store: what differs may be on its way")
        elif found.differences:
            click.echo("lfombench mlflow sync writes what is missing or new; rebuild also what was changed by hand")
    sys.exit(3 if found.differences else 0)


@group.command()
@click.argument("job")
@OUT
@URI
@ALLOW_CODE
@click.option("--name", help="Of the model in the registry. [default: solver, depth and seed]")
def register(job: str, out: str, mlflow: str | None, name: str | None) -> None:
    """Log a trained JOB as a model that MLflow can load and serve; the begin of its id is enough."""
    from ..driver.register import register as log_model

    known_sweeps(out, None)
    where = _where(out, mlflow)
    uri = log_model(out, job, where, name)
    click.echo(f"MLFLOW_TRACKING_URI={quote(where.shown)} mlflow models serve -m {uri} --env-manager local")
    click.echo(uri)


@click.command()
@OUT
@click.option("--port", type=click.IntRange(1, 65535), help="[default: 5000, or the next free one]")
@URI
@click.option("--open", "in_browser", is_flag=True, help="Open it in a browser.")
def ui(out: str, port: int | None, mlflow: str | None, in_browser: bool) -> None:
    """Start MLflow's UI on this machine, with the report beside it, and print its addresses; Ctrl-C ends it."""
    from ..driver.experiments import opened
    from ..store.lease import Held
    from ..tracking.server import HOST, free_port, served

    listen(signal.SIGTERM)
    sweeps = [manifest for manifest in known_sweeps(out, None) if manifest.jobs]
    where = _where(out, mlflow)
    try:
        _told(_reconcile(out, sweeps, where, wait=False), where)
    except Held:
        click.echo("a run writes to it now", err=True)
    with opened(out, where, _tell) as view:
        ids = {manifest.name: view.open(manifest.name) for manifest in sweeps}
    if where.address:
        _addresses(where.address, ids, in_browser, report=False)
        return
    port = free_port(port)
    click.echo("starting MLflow, a few seconds ...")
    try:
        with served(out, where, port) as ended:
            _addresses(f"http://{HOST}:{port}", ids, in_browser, report=True)
            click.echo("Ctrl-C ends it")
            while (code := ended()) is None:  # no wait(): beside MLflow's threads, a signal does not always end it
                time.sleep(0.2)
        sys.exit(code)
    except KeyboardInterrupt:
        sys.exit(0)


def _addresses(base: str, ids: dict[str, str], in_browser: bool, report: bool) -> None:
    """Print where the table of each sweep's runs is, sorted by score, and the report."""
    from ..tracking.page import ADDRESS

    pages = {name: f"{base}/#/experiments/{number}/runs{ADDRESS}" for name, number in ids.items()}
    pages |= {"report": f"{base}/report/"} if report else {}
    for name, address in (pages or {"no runs yet": base}).items():
        click.echo(f"{name}: {address}")
    if in_browser:
        click.launch(next(iter(pages.values()), base))


def _show(out: str, mlflow: str | None, as_json: bool, anew: bool) -> None:
    listen(signal.SIGINT, signal.SIGTERM)
    sweeps, where = known_sweeps(out, None), _where(out, mlflow)
    work = _reconcile(out, sweeps, where, anew=anew)
    if as_json:
        numbers = {name: getattr(work, name) for name in ("runs", "written", "removed", "refused")}
        click.echo(json.dumps({"mlflow": where.shown, **numbers}, indent=1))
    else:
        _told(work, where)
    sys.exit(3 if work.refused else 0)


def _told(work: Work, where: Where) -> None:
    """Say what a reconciliation did."""
    for job, why in list(work.refused.items())[:SHOWN]:
        click.echo(f"job {job} cannot be shown: {why}", err=True)
    click.echo(
        f"{where.shown} shows {work.runs - len(work.refused)} runs: {work.written} written, {work.removed} removed"
    )


def _reconcile(out: str, sweeps: Sequence[Manifest], where: Where, anew: bool = False, wait: bool = True) -> Work:
    """Make MLflow equal to a store, with lines of progress. Without wait, `Held` where somebody else does so now."""
    from ..driver.experiments import show
    from ..tracking.sync import Told

    line = _Line()

    def progress(work: Work) -> None:
        line.show(f"{work.written} of {work.to_write} runs", work.written, work.to_write)

    told = Told(progress, lambda why: line.say(f"waiting for {where.shown}: {why}"))
    return show(out, sweeps, where, _tell, told, anew, wait)


class _Line:
    """Lines of progress on standard error, not more than one in so many seconds."""

    def __init__(self) -> None:
        self.began = self.last = time.monotonic()

    def show(self, text: str, done: int, of: int) -> None:
        """Say how far it is, and how long the rest takes."""
        from .format import duration

        spent = time.monotonic() - self.began
        left = f", {duration(spent / done * (of - done))} left" if done * 50 > of else ""
        if of:
            self.say(f"{text}{left}")

    def say(self, text: str) -> None:
        """Say something, unless something was said just now."""
        if time.monotonic() - self.last > EVERY:
            click.echo(f"MLflow: {text}", err=True)
            self.last = time.monotonic()


def _where(out: str, mlflow: str | None) -> Where:
    from ..tracking.uris import where

    found = where(out, mlflow, _tell, always=True)
    if found is None:
        raise UserError("--mlflow off shows nothing; leave it out, or name a tracking store")
    return found


def _tell(text: str) -> None:
    click.echo(text, err=True)
