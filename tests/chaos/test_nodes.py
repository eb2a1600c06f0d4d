"""A node dies, or the link to it is cut, in the middle of a sweep: the board is the same, and the run goes on."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from ..nodes import Head, Node
from .links import NOTICED, TOKEN, Linked, permitted
from .storm import CODE, Storm, cmdline, descendants

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("ray")]


@pytest.fixture
def storm(tmp_path: Path) -> Storm:
    """A sweep that nothing has befallen yet."""
    return Storm(tmp_path / "storm", 0, 2)


def survives(
    storm: Storm, address: str, second: Node, strike: Callable[[], None], prefix: tuple[str, ...] = ()
) -> None:
    """Strike when the second node works, for which the run is held up where need be; it ends by itself.

    prefix: what the command begins with that runs beside the head.
    """
    hold = storm.folder / "ghosts" / "holds"
    hold.touch()
    process = storm.start("--address", address, "--deadline", "120", prefix=prefix)
    try:
        deadline = time.monotonic() + 120
        while not (busy := working(second)) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        strike()
    finally:
        hold.unlink()
        code = storm.over(process, 300)
    assert busy, f"the second node never worked\n{storm.report()}"
    assert code == CODE, storm.report()


def working(node: Node) -> bool:
    """Whether a worker on a node runs a pack: a fork of a process beside the node's Ray, which its variables name."""
    below = {f"RAY_RAYLET_PID={pid}".encode() for pid in descendants(node.process.pid)}
    workers = [process for process in Path("/proc").glob("[0-9]*") if b"ray::_Worker.run" in cmdline(int(process.name))]
    for process in workers:
        with contextlib.suppress(OSError):
            if below & {*(process / "environ").read_bytes().split(b"\0")}:
                return True
    return False


def test_a_dead_node_changes_nothing(undisturbed: pl.DataFrame, storm: Storm, head: Head, tmp_path: Path) -> None:
    with Node(tmp_path, "second", "127.0.0.1", "--num-cpus=1", f"--address={head.address}") as second:
        survives(storm, head.address, second, second.kill)
    assert storm.whole().equals(undisturbed), storm.report()


@pytest.mark.skipif(not os.environ.get("CHAOS_STORMS"), reason="links are cut in `make chaos`")
@pytest.mark.parametrize("seconds", [None, 30.0], ids=["for good", "for 30 seconds"])
def test_a_cut_link_changes_nothing(
    seconds: float | None, undisturbed: pl.DataFrame, storm: Storm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between machines that ask each other for a token. Where it is mended, Ray has its usual patience."""
    if not permitted():
        pytest.skip("network namespaces cannot be made here: needs root and iproute2")
    environment = TOKEN if seconds else TOKEN | NOTICED
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with Linked(tmp_path, environment) as cluster:
        for name, token in (("missing", {"RAY_AUTH_MODE": "disabled"}), ("wrong", {"RAY_AUTH_TOKEN": "d" * 40})):
            stranger = cluster.node(name, 1, cluster.environment | token)
            assert stranger.process.wait(60) != 0
            assert "oken" in stranger.log.read_text()

        def strike() -> None:
            cluster.cut()
            if seconds:
                threading.Timer(seconds, cluster.mend).start()

        survives(storm, cluster.address, cluster.nodes[1], strike, cluster.inside(0))
    assert storm.whole().equals(undisturbed), storm.report()
