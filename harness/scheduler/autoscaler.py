"""What the autoscaler of a cluster says: which nodes come. Ray has two generations of it, and neither is public."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Any

ANONYMOUS = re.compile(r"node_[0-9a-f]{20,}")  # the type of a node that no autoscaler has started


def coming(ray: Any) -> int | None:
    """The number of nodes that the autoscaler is starting; None where the cluster has none, or it says nothing."""
    from ray.autoscaler.v2.utils import is_autoscaler_v2

    try:
        number, types = _second(ray) if is_autoscaler_v2(fetch_from_server=True) else _first()
    except Exception:  # another Ray, or a head that is busy
        return None
    return number if number or any(not ANONYMOUS.fullmatch(name) for name in types) else None


def _first() -> tuple[int, Collection[str]]:
    """What the first generation says: the number of nodes that come, and the types of those that are there."""
    from ray.experimental.internal_kv import _internal_kv_get

    report = json.loads(_internal_kv_get(b"__autoscaling_status"))["autoscaler_report"]
    return len(report["pending_nodes"]) + sum(report["pending_launches"].values()), report["active_nodes"]


def _second(ray: Any) -> tuple[int, Collection[str]]:
    """What the second generation says."""
    from ray.autoscaler.v2.sdk import get_cluster_status

    status = get_cluster_status(ray.get_runtime_context().gcs_address)
    there = [node.ray_node_type_name for node in (*status.active_nodes, *status.idle_nodes)]
    return len(status.pending_nodes) + sum(launch.count for launch in status.pending_launches), there
