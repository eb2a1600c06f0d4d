"""Commands that maintain a store: explain a job, remove what no sweep needs, merge stores."""

from __future__ import annotations

import contextlib
import itertools
import json
import sys
from typing import TYPE_CHECKING

import click

from ..errors import UserError
from .options import ALLOW_CODE, JSON, OUT

SHOWN = 5  # number of contradictions that are shown

if TYPE_CHECKING:
    from ..store.merge import Contradiction
    from ..store.store import Store


@click.command()
@click.argument("job")
@OUT
@ALLOW_CODE
@JSON
def why(job: str, out: str, as_json: bool) -> None:
    """Explain the state of JOB, an id or its beginning: done, stale, failed, or never run."""
    from ..driver.explain import explain

    answer = explain(opened(out), job)
    if as_json:
        click.echo(json.dumps(answer, indent=1))
        return
    click.echo(f"{answer['job']}: {answer['state']}. {answer['because']}")
    for key in ("what", "wanted", "ran"):
        if answer[key]:
            click.echo(f"{key}: {answer[key]}")
    for expert in answer["experts"]:
        click.echo(f"expert: {expert}")
    if answer["reason"]:
        click.echo(answer["reason"].rstrip())


@click.command()
@OUT
@click.option("--yes", is_flag=True, help="Remove them; without this option they are only counted.")
@JSON
def prune(out: str, yes: bool, as_json: bool) -> None:
    """Remove jobs that no sweep of the store wants, and what was set aside as stale."""
    from ..store import maintenance
    from ..store.lease import take
    from ..store.store import STALE
    from .format import counted

    store = opened(out)
    with take(store.place, "prune") if yes else contextlib.nullcontext():
        jobs = maintenance.unwanted(store)
        files = store.place.names(STALE)
        if yes:
            maintenance.forget(store, jobs)
    if as_json:
        click.echo(json.dumps({"jobs": sorted(jobs), "stale_files": files, "removed": yes}, indent=1))
    else:
        removed = f"{counted(len(jobs), 'job')} that no sweep wants, {counted(len(files), 'file')} of stale results"
        click.echo(f"{'removed' if yes else 'would remove'}: {removed}{'' if yes else '; --yes does it'}")


@click.command()
@click.argument("stores", nargs=-1, required=True)
@OUT
def merge(stores: tuple[str, ...], out: str) -> None:
    """Add the jobs and sweeps of STORES to the store at --out. If stores contradict each other, nothing is added."""
    from ..store.lease import take
    from ..store.merge import add, contradictions
    from ..store.store import Store
    from ..store.tables import doubtful, verify
    from .format import counted
    from .tables import contradiction_table
    from .terminal import console

    target = Store(out)
    target.create()
    verify(target.place, doubtful)
    others = [opened(path) for path in stores]
    pairs = itertools.combinations([target, *others], 2)
    conflicts: list[Contradiction] = [conflict for pair in pairs for conflict in contradictions(*pair)]
    if conflicts:
        screen = console()
        for conflict in conflicts[:SHOWN]:
            screen.print(contradiction_table(conflict))
        click.echo(f"Error: {counted(len(conflicts), 'contradiction')}; nothing was added", err=True)
        sys.exit(1)
    for other in others:
        with take(target.place, "merge"):
            jobs = add(target, other)
        click.echo(f"{other.out}: {counted(jobs, 'job')} added to {out}")


def opened(out: str) -> Store:
    """A store that is open for reading; UserError where there is none, or where it is damaged."""
    from ..store.store import Store
    from ..store.tables import doubtful, verify
    from ..store.version import is_store

    store = Store(out)
    if not is_store(store.place, out):
        raise UserError(f"--out {out} holds no results yet; make some with `lfombench run SWEEP --out {out}`")
    verify(store.place, doubtful)
    return store
