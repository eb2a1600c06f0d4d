"""What the workers of a job have printed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import urlencode

from lfombench.harness.errors import UserError

from .client import known, told

MOST = 10_000  # workers: what Ray lists at once


class Output(NamedTuple):
    """What a worker has printed, errors last."""

    worker: str  # what it is, where, and whether it lives
    text: str


def outputs(job: str, address: str) -> Iterator[Output]:
    """What each worker of a job has printed so far; of those that are gone too, as long as their nodes are there.
    UserError where the job has begun none.
    """
    from ray.util import state

    jobs_api = known(job, address)
    with told(address):
        driver = jobs_api.get_job_info(job).driver_info
        found = [] if driver is None else state.list_actors(
            address, filters=[("job_id", "=", driver.id)], limit=MOST, detail=True, raise_on_missing_output=False
        )  # fmt: skip
        nodes = {node.node_id: node.node_ip for node in state.list_nodes(address, limit=MOST)} if found else {}
    if not found:
        raise UserError(f"job {job} has begun no worker; its own log is `lfombench logs {job} --address {address}`")
    for actor in found:
        text = "".join(_part(jobs_api, address, str(actor.actor_id), suffix) for suffix in ("out", "err"))
        where = nodes.get(actor.node_id or "", "a node that is gone")
        yield Output(
            f"{actor.class_name.lstrip('_')} on {where}, process {actor.pid}, {str(actor.state).lower()}", text
        )


def _part(jobs_api: Any, address: str, actor: str, suffix: str) -> str:
    """The output or the errors of a worker; nothing where its node is gone. Ray's own `get_log` takes no address of a
    dashboard and no token.
    """
    asked = urlencode({"actor_id": actor, "suffix": suffix, "lines": -1})
    with told(address):
        answer = jobs_api._do_request("GET", f"/api/v0/logs/file?{asked}")
    return str(answer.text) if answer.ok else ""
