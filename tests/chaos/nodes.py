"""A Ray cluster of two machines: processes of this one, or each in a network namespace with an address of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

RAY = str(Path(sys.executable).parent / "ray")
ENVIRONMENT = {  # of all processes: that a node or a link is gone is noticed in seconds instead of minutes
    "RAY_AUTH_MODE": "disabled",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_grpc_client_keepalive_time_ms": "2000",
    "RAY_grpc_client_keepalive_timeout_ms": "2000",
}


class Node:
    """A machine of the cluster: `ray start` and all it starts."""

    def __init__(self, folder: Path, name: str, address: str, *arguments: str, prefix: tuple[str, ...] = ()) -> None:
        self.log = folder / f"{name}.log"
        command = [*prefix, RAY, "start", "--block", f"--node-ip-address={address}", "--num-cpus=1"]
        command += ["--object-store-memory=100000000", "--disable-usage-stats", *arguments]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)

    def up(self) -> None:
        """Wait until it says that it is."""
        deadline = time.monotonic() + 120
        while "Ray runtime started" not in self.log.read_text():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.2)

    def kill(self) -> None:
        """As a machine that loses its power does."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Cluster:
    """Two nodes with a core each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.nodes: list[Node] = []

    def host(self, number: int) -> str:
        """A node's address."""
        return "127.0.0.1"

    def inside(self, number: int) -> tuple[str, ...]:
        """What a command begins with that runs on a node."""
        return ()

    @property
    def address(self) -> str:
        """Of Ray."""
        return f"{self.host(0)}:{self.port}"

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _start(self) -> None:
        head = ["--head", f"--port={self.port}", "--include-dashboard=false"]
        self.nodes.append(Node(self.folder, "head", self.host(0), *head, prefix=self.inside(0)))
        self.nodes[0].up()
        joins = f"--address={self.address}"
        self.nodes.append(Node(self.folder, "other", self.host(1), joins, prefix=self.inside(1)))
        self.nodes[1].up()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for node in self.nodes:
            node.kill()


class Linked(Cluster):
    """Each node in a namespace of its own; the link between them can be cut. Needs the right to make namespaces."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.port = 6379
        self.names = [f"lfom{os.getpid()}{letter}" for letter in "ab"]

    def host(self, number: int) -> str:
        return f"10.213.7.{number + 1}"

    def inside(self, number: int) -> tuple[str, ...]:
        return ("ip", "netns", "exec", self.names[number])

    def _start(self) -> None:
        a, b = self.names
        _ip("netns", "add", a)
        _ip("netns", "add", b)
        _ip("link", "add", "left", "netns", a, "type", "veth", "peer", "name", "right", "netns", b)
        for i, device in enumerate(("left", "right")):
            _ip("-n", self.names[i], "address", "add", f"{self.host(i)}/24", "dev", device)
            _ip("-n", self.names[i], "link", "set", device, "up")
            _ip("-n", self.names[i], "link", "set", "lo", "up")
        super()._start()

    def cut(self) -> None:
        """Nothing gets through any more, and nobody is told."""
        _ip("-n", self.names[1], "link", "set", "right", "down")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        super().__exit__(kind, error, at)
        for name in self.names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def permitted() -> bool:
    """Whether namespaces can be made here."""
    name = f"lfom{os.getpid()}"
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        _ip("netns", "add", name)
        _ip("netns", "delete", name)
        return True
    return False


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
