"""Two machines in network namespaces with addresses of their own, and a link between them that can be cut."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from ..nodes import ENVIRONMENT, Node

NOTICED = {  # that a link is gone is noticed in seconds instead of minutes
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_grpc_client_keepalive_time_ms": "2000",
    "RAY_grpc_client_keepalive_timeout_ms": "2000",
}
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "c" * 40}  # without it nobody joins
HEAD, OTHER, PORT = "10.213.7.1", "10.213.7.2", 6379


class Linked:
    """A cluster of a head and another node, with a core each."""

    address = f"{HEAD}:{PORT}"

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        """environment: what the nodes have besides that of this process."""
        self.folder, self.nodes, self.environment = folder, list[Node](), ENVIRONMENT | environment
        self.names = [f"lfom{os.getpid()}{letter}" for letter in "ab"]

    def inside(self, number: int) -> tuple[str, ...]:
        """What a command begins with that runs on a node."""
        return ("ip", "netns", "exec", self.names[number])

    def __enter__(self) -> Self:
        try:
            self._link()
            head = ["--head", f"--port={PORT}", "--include-dashboard=false"]
            self.nodes.append(self.node("head", 0, self.environment, *head))
            self.nodes.append(self.node("other", 1, self.environment))
            for node in self.nodes:
                node.up()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _link(self) -> None:
        for name in self.names:
            _ip("netns", "add", name)
        ends = ["left", "netns", self.names[0], "type", "veth", "peer", "name", "right", "netns", self.names[1]]
        _ip("link", "add", *ends)
        for name, device, host in zip(self.names, ("left", "right"), (HEAD, OTHER), strict=True):
            _ip("-n", name, "address", "add", f"{host}/24", "dev", device)
            _ip("-n", name, "link", "set", device, "up")
            _ip("-n", name, "link", "set", "lo", "up")

    def node(self, name: str, machine: int, environment: Mapping[str, str], *arguments: str) -> Node:
        """A node that starts on one of the machines; without arguments one that joins the head."""
        host, given = (HEAD, OTHER)[machine], arguments or (f"--address={self.address}",)
        prefix = self.inside(machine)
        return Node(self.folder, name, host, "--num-cpus=1", *given, prefix=prefix, environment=environment)

    def cut(self) -> None:
        """Nothing gets through any more, and nobody is told."""
        _ip("-n", self.names[1], "link", "set", "right", "down")

    def mend(self) -> None:
        """Everything gets through again."""
        _ip("-n", self.names[1], "link", "set", "right", "up")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for node in self.nodes:
            node.kill()
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
