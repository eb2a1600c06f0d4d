"""Ray clusters whose machines are processes of this one."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.error import HTTPError

BIN = Path(sys.executable).parent
ENVIRONMENT = (
    {"RAY_AUTH_MODE": "disabled"} | os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
)  # Ray's Jobs start `python`


class Node:
    """A machine of a cluster: `ray start` and all it starts."""

    def __init__(
        self,
        folder: Path,
        name: str,
        address: str,
        *arguments: str,
        prefix: tuple[str, ...] = (),
        environment: Mapping[str, str] = ENVIRONMENT,
    ) -> None:
        """arguments: of `ray start`. prefix: what runs it, as `ip netns exec` does."""
        self.log = folder / f"{name}.log"
        # Of its own, as machines have: where they share one, they delete each other's packages of jobs. In a folder of
        # the system, as the path of a socket is short.
        self.files = tempfile.mkdtemp(prefix="ray")
        command = [*prefix, str(BIN / "ray"), "start", "--block", f"--node-ip-address={address}", *arguments]
        command += [f"--temp-dir={self.files}", "--object-store-memory=100000000", "--disable-usage-stats"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, env=environment
            )

    def up(self) -> None:
        """Wait until it says that it is."""
        deadline = time.monotonic() + 120
        while "Ray runtime started" not in self.log.read_text():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.1)

    def kill(self) -> None:
        """As a machine that loses its power does; never `ray stop`, which ends every Ray of the user."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        shutil.rmtree(self.files, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            self.up()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill()


class Head(Node):
    """The first machine of a cluster, of two cores, with the dashboard that Ray's Jobs are sent to."""

    def __init__(self, folder: Path, *more: str, cores: int = 2, port: int | None = None, **environment: str) -> None:
        """more: arguments of `ray start`. port: of the cluster's address; left out, a free one."""
        gcs, dashboard, agent = port or free_port(), free_port(), free_port()
        self.address, self.dashboard = f"127.0.0.1:{gcs}", f"http://127.0.0.1:{dashboard}"
        arguments = [*more, "--head", f"--port={gcs}", f"--num-cpus={cores}"]
        arguments += ["--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"]
        arguments += [f"--dashboard-agent-listen-port={agent}"]
        super().__init__(folder, "head", "127.0.0.1", *arguments, environment=ENVIRONMENT | environment)

    def up(self) -> None:
        """Wait until its dashboard answers."""
        super().up()
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"{self.dashboard}/api/jobs/", timeout=2):
                    return
            except HTTPError as error:
                if error.code == 401:  # it asks for a token
                    return
            except OSError:
                pass
            time.sleep(0.2)
        raise AssertionError(self.log.read_text())


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
