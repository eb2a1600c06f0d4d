"""What the workers of a job have printed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

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
        text = "".join(_part(address, str(actor.actor_id), suffix) for suffix in ("out", "err"))
        where = nodes.get(actor.node_id, "a node that is gone")
        yield Output(f"{actor.class_name.lstrip('_')} on {where}, process {actor.pid}, {actor.state.lower()}", text)


def _part(address: str, actor: str, suffix: str) -> str:
    """The output or the errors of a worker; what is not to be had is said in their place."""
    from ray.util import state

    try:
        with told(address):
            return "".join(state.get_log(address, actor_id=actor, suffix=suffix, tail=-1))
    except UserError as error:  # a node that is gone
        return f"({suffix}: {error})\n"
