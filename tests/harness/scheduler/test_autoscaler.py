"""A cluster whose nodes come when work asks for them, and leave when nothing does: Ray's own autoscaler, with the
provider of nodes that Ray tests it with, made slow. Its nodes are processes of this machine.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID, FAKE_HEAD_NODE_TYPE

from lfombench.harness import load, run
from lfombench.harness.scheduler import view
from lfombench.harness.scheduler.attached import Attached
from lfombench.harness.scheduler.autoscaler import coming
from tests.nodes import Head, free_port

pytestmark = [
    *(pytest.mark.slow, pytest.mark.xdist_group("ray")),
    pytest.mark.skipif(not os.environ.get("CHAOS_STORMS"), reason="clusters grow in `make chaos`"),
]

LISTS = ["cluster_synced_files", "initialization_commands", "setup_commands", "rsync_exclude", "rsync_filter"]
LISTS += [f"{kind}_{what}_commands" for kind in ("head", "worker") for what in ("setup", "start_ray")]
EMPTY: dict[str, Any] = {name: [] for name in LISTS} | {name: {} for name in ("auth", "docker", "file_mounts")}
PROVIDER = """\
import time
from ray.autoscaler._private.fake_multi_node.node_provider import FakeMultiNodeProvider
class SlowNodes(FakeMultiNodeProvider):
    def create_node_with_resources_and_labels(self, *what):
        time.sleep(4)
        return super().create_node_with_resources_and_labels(*what)
"""


@pytest.fixture(params=["0", "1"], ids=["first", "second"])
def growing(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Head]:
    """A head without cores for work, to which at most two nodes of two cores come, and leave after six idle seconds."""
    environment = {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
    environment |= {"PYTHONPATH": str(tmp_path), "RAY_NODE_TYPE_NAME": FAKE_HEAD_NODE_TYPE}
    environment |= {"RAY_enable_autoscaler_v2": request.param, "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID}
    (tmp_path / "slow_nodes.py").write_text(PROVIDER)
    file, port = tmp_path / "autoscaler.json", free_port()
    config = {
        "cluster_name": "growing",
        "max_workers": 2,
        "idle_timeout_minutes": 0.1,
        "provider": {
            "type": "external",
            "module": "slow_nodes.SlowNodes",
            "gcs_address": f"127.0.0.1:{port}",
            "launch_multiple": True,
            "disable_node_updaters": True,
            "use_node_id_as_ip": True,  # all have the same one
            "head_node_id": FAKE_HEAD_NODE_ID,
        },
        "head_node_type": FAKE_HEAD_NODE_TYPE,
        "available_node_types": {
            FAKE_HEAD_NODE_TYPE: {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "pair": {
                "resources": {"CPU": 2, "object_store_memory": 100_000_000},
                "node_config": {},
                "min_workers": 0,
                "max_workers": 2,
            },
        },
    }
    file.write_text(json.dumps(EMPTY | config))
    with Head(tmp_path, f"--autoscaling-config={file}", cores=0, port=port, **environment) as head:
        yield head


def cores(head: Head) -> int:
    """Those that are there for work."""
    attached = Attached(head.address, 0)
    try:
        return int(attached.ray.cluster_resources().get("CPU", 0))
    finally:
        attached.close()


def test_nodes_come_for_a_sweep_and_leave_after_it(growing: Head, small, tmp_path, monkeypatch):
    """And while they come the cluster is known to say so, or a run would give up on slow ones after five minutes."""
    said = list[int | None]()

    def noted(ray: Any) -> int | None:
        said.append(coming(ray))
        return said[-1]

    monkeypatch.setattr(view, "coming", noted)
    monkeypatch.setattr(view, "EVERY", 0.5)
    assert cores(growing) == 0
    summary = run(load(str(small)), str(tmp_path / "out"), address=growing.address, mlflow="off")
    assert summary.exit_code == 0, summary
    assert cores(growing) > 0, "the sweep ran elsewhere"
    assert max(number or 0 for number in said) >= 1
    assert None not in said, "it is a cluster with an autoscaler from the first moment"
    deadline = time.monotonic() + 60
    while (left := cores(growing)) and time.monotonic() < deadline:
        time.sleep(1.0)
    assert left == 0
