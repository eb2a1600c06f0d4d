"""Commands that look after a store: why a job is as it is, what no sweep wants, two stores as one."""

from __future__ import annotations

import contextlib
import itertools
import json
import sys
from typing import TYPE_CHECKING

import click

from ..errors import UserError
from .options import JSON, OUT

if TYPE_CHECKING:
    from ..store.merge import Difference
    from ..store.store import Store


@click.command()
@click.argument("job")
@OUT
@JSON
def why(job: str, out: str, as_json: bool) -> None:
    """Say what became of JOB, an id or its beginning: done, stale, failed, never ran."""
    from ..driver.explain import explain

    found = explain(_opened(out), job)
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    click.echo(f"{found['job']}: {found['state']}. {found['because']}")
    for key in ("what", "wanted", "ran"):
        if found[key]:
            click.echo(f"{key}: {found[key]}")
    for expert in found["experts"]:
        click.echo(f"expert: {expert}")
    if found["reason"]:
        click.echo(found["reason"].rstrip())


@click.command()
@OUT
@click.option("--yes", is_flag=True, help="Do it. Without, it is only told.")
@JSON
def prune(out: str, yes: bool, as_json: bool) -> None:
    """Remove jobs that no sweep of the store wants, and what was set aside as stale."""
    from ..store import maintenance
    from ..store.lease import take
    from .format import counted

    store = _opened(out)
    with take(store.place, "prune") if yes else contextlib.nullcontext():
        found = maintenance.unwanted(store)
        aside = store.place.names("stale")
        if yes:
            maintenance.forget(store, found)
    if as_json:
        click.echo(json.dumps({"jobs": sorted(found), "stale_files": aside, "removed": yes}, indent=1))
    else:
        told = f"{counted(len(found), 'job')} that no sweep wants, {counted(len(aside), 'file')} of stale results"
        click.echo(f"{'removed' if yes else 'would remove'}: {told}{'' if yes else '; --yes does it'}")


@click.command()
@click.argument("stores", nargs=-1, required=True)
@OUT
def merge(stores: tuple[str, ...], out: str) -> None:
    """Add the jobs and sweeps of STORES to the one at --out. Contradictions are shown, and then nothing is added."""
    from ..store import merge as merging
    from ..store.lease import take
    from ..store.store import Store
    from .format import counted
    from .terminal import console

    into = Store(out)
    into.create()
    others = [_opened(one) for one in stores]
    pairs = itertools.combinations([into, *others], 2)
    found: list[Difference] = [one for mine, theirs in pairs for one in merging.contradictions(mine, theirs)]
    if found:
        screen = console()
        for one in found[: merging.SHOWN]:
            screen.print(one.table())
        click.echo(f"Error: {counted(len(found), 'contradiction')}; nothing was added", err=True)
        sys.exit(1)
    for other in others:
        with take(into.place, "merge"):
            jobs = merging.add(into, other)
        click.echo(f"{other.out}: {counted(jobs, 'job')} added to {out}")


def _opened(out: str) -> Store:
    """A store that is there."""
    from pyarrow import fs

    from ..store.store import Store

    store = Store(out)
    if store.place.kind("store.json") != fs.FileType.File:
        raise UserError(f"--out {out} holds no results yet; make some with `lfombench run SWEEP --out {out}`")
    return store
