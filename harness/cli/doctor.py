"""The command that looks for what is in the way on this machine."""

from __future__ import annotations

import json
import sys

import click

from .options import JSON

MARKS = {"ok": "ok  ", "look": "look", "bad": "BAD "}


@click.command()
@click.option("--out", metavar="DIR", help="A store to look at too.")
@click.option("--without-ray", is_flag=True, help="Do not try whether Ray starts, which takes some seconds.")
@JSON
def doctor(out: str | None, without_ray: bool, as_json: bool) -> None:
    """Look for what is in the way on this machine, with remedies. Exit code 1 where something does not work."""
    from ..driver.doctor import findings

    found = []
    for one in findings(start_ray=not without_ray, out=out):
        found.append(one)
        if not as_json:
            click.echo(f"{MARKS[one.verdict]}  {one}")
    if as_json:
        click.echo(json.dumps([one.as_json() for one in found], indent=1))
    sys.exit(1 if any(one.verdict == "bad" for one in found) else 0)
