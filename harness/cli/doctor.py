"""The command that looks for what is in the way, on this machine or on a cluster."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from .options import JSON

if TYPE_CHECKING:
    from ..driver.doctor import Finding

MARKS = {"ok": "ok  ", "look": "look", "bad": "BAD "}


HOSTS = 4  # nodes that are named where many have the same


@click.command()
@click.option("--address", metavar="HOST:PORT", help="Look at every node of a Ray cluster.")
@click.option("--out", metavar="DIR", help="A store to look at too.")
@click.option("--mlflow", metavar="URI", help="With --address: a tracking server that the nodes should reach.")
@click.option("--without-ray", is_flag=True, help="Do not try whether Ray starts, which takes some seconds.")
@JSON
def doctor(address: str | None, out: str | None, mlflow: str | None, without_ray: bool, as_json: bool) -> None:
    """Look for what is in the way on this machine or on a cluster, with remedies. Exit code 1 where something does not
    work.
    """
    if address:
        found = _of_cluster(address, out, mlflow, as_json)
    elif mlflow:
        raise click.UsageError("--mlflow is tried from the nodes of a cluster: give its --address too")
    else:
        found = _of_this_machine(out, without_ray, as_json)
    sys.exit(1 if any(one.verdict == "bad" for one in found) else 0)


def _of_this_machine(out: str | None, without_ray: bool, as_json: bool) -> list[Finding]:
    from ..driver.doctor import findings

    found = []
    for one in findings(start_ray=not without_ray, out=out):
        found.append(one)
        if not as_json:
            click.echo(f"{MARKS[one.verdict]}  {one}")
    if as_json:
        click.echo(json.dumps([one.as_json() for one in found], indent=1))
    return found


def _of_cluster(address: str, out: str | None, mlflow: str | None, as_json: bool) -> list[Finding]:
    """What the nodes have in common in one line each; every problem with its nodes."""
    from ..driver.cluster_doctor import examine
    from .format import counted

    nodes = examine(address, out, mlflow)
    if as_json:
        told = [{"node": node.host, "findings": [one.as_json() for one in node.findings]} for node in nodes]
        click.echo(json.dumps(told, indent=1))
    else:
        click.echo(f"{counted(len(nodes), 'node')} at {address}")
        groups: dict[tuple[str, str], list[tuple[str, Finding]]] = {}
        for node in nodes:
            for one in node.findings:
                told_apart = "" if one.verdict == "ok" else str(one)
                groups.setdefault((one.check, told_apart), []).append((node.host, one))
        for group in groups.values():
            host, first = group[0]
            hosts = [host for host, _ in group]
            named = ", ".join(hosts[:HOSTS]) + (f" and {len(hosts) - HOSTS} more" if len(hosts) > HOSTS else "")
            others = {str(one) for _, one in group} - {str(first)}
            where = named if first.verdict != "ok" else f"{counted(len(hosts), 'node')}; {host}" if others else "all"
            where = f"all {len(nodes)}" if len(hosts) == len(nodes) and not others else where
            click.echo(f"{MARKS[first.verdict]}  {first}  ({where})")
    return [one for node in nodes for one in node.findings]
