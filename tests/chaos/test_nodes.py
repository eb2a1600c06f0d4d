"""A node dies, or the link to it is cut, in the middle of a sweep: the board is the same, and the run goes on."""

from __future__ import annotations

import os
import time

import pytest

from .nodes import ENVIRONMENT, Cluster, Linked, permitted
from .storm import CODE, Storm, cmdline, descendants

pytestmark = [
    *(pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("ray")),
    pytest.mark.skipif(not os.environ.get("CHAOS_STORMS"), reason="nodes die in `make chaos`"),
]


def working(node: int) -> bool:
    """Whether a worker among the descendants of a node's process runs a pack."""
    return any(b"ray::_Worker.run" in cmdline(pid) for pid in descendants(node))


@pytest.fixture
def storm(tmp_path, monkeypatch) -> Storm:
    """A sweep, whose solver's module the nodes find too."""
    made = Storm(tmp_path / "storm", 0, 2)
    for name, value in (ENVIRONMENT | {"PYTHONPATH": str(made.folder), "HAUNTED": str(made.folder / "ghosts")}).items():
        monkeypatch.setenv(name, value)
    return made


def survives(storm: Storm, cluster: Cluster, strike) -> None:
    """Strike when the second node works, for which the run is held up where need be; it ends by itself."""
    hold = storm.folder / "ghosts" / "holds"
    hold.touch()
    process = storm.start("--address", cluster.address, "--deadline", "120", prefix=cluster.inside(0))
    try:
        deadline = time.monotonic() + 120
        while not (busy := working(cluster.nodes[1].process.pid)) and time.monotonic() < deadline:
            if process.poll() is not None:
                break
            time.sleep(0.05)
        strike()
    finally:
        hold.unlink()
        code = storm.over(process, 300)
    assert busy, f"the second node never worked\n{storm.report()}"
    assert code == CODE, storm.report()


def test_a_dead_node_changes_nothing(undisturbed, storm, tmp_path):
    with Cluster(tmp_path) as cluster:
        survives(storm, cluster, cluster.nodes[1].kill)
    assert storm.whole().equals(undisturbed), storm.report()


def test_a_cut_link_changes_nothing(undisturbed, storm, tmp_path):
    if not permitted():
        pytest.skip("network namespaces cannot be made here: needs root and iproute2")
    with Linked(tmp_path) as cluster:
        survives(storm, cluster, cluster.cut)
    assert storm.whole().equals(undisturbed), storm.report()
