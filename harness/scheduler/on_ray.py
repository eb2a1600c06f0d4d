"""The executor on Ray: long-lived actors on this machine or on a cluster."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import threading
import time
from collections.abc import Collection, Iterator
from typing import Any

from ..errors import UserError
from ..signals import guarded
from ..spec.user_modules import look_here
from ..training.checkpoint import Checkpoint
from ..training.pack import Pack, WorkOrder
from .address import reachable
from .devices import cores, packs_per_gpu
from .faults import Event, Fault, attempt

START = 300.0  # seconds in which a worker must be up


class OnRay:
    """Long-lived actors, one per core or some per GPU, each with at most one pack."""

    def __init__(self, address: str | None = None, workers: int | None = None) -> None:
        """Start Ray on this machine, or join the cluster at `address`."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # or every worker without a GPU warns
        import ray

        self.ray = ray
        # Ray puts the driver's folder in front of its workers' path, where a torch.py would be found before torch.
        self.folder, self.empty = os.getcwd(), tempfile.TemporaryDirectory(prefix="lfombench-")
        options: dict[str, Any] = {"address": "local", "include_dashboard": False, "object_store_memory": 256 << 20}
        options["num_cpus"] = workers or cores()
        failure = "Ray cannot start on this machine"
        if address is not None:
            reachable(address)
            options, failure = {"address": address}, f"--address {address}: cannot join the Ray cluster there"
        try:
            with guarded(), contextlib.chdir(self.empty.name):
                ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
        except (ConnectionError, RuntimeError, TimeoutError, ValueError) as error:
            raise UserError(f"{failure}: {error}") from error
        resources = ray.cluster_resources()
        self.gpus, self.cpus = int(resources.get("GPU", 0)), max(1, int(resources.get("CPU", 1)))
        self.asked = workers
        self.workers = workers or self.gpus or self.cpus
        self.free: list[Any] = []
        self.coming: dict[Any, Any] = {}  # the first call of an actor that starts, and the actor
        self.running: dict[int, tuple[Any, Any]] = {}  # the actor, and the stream of what it yields
        self.nodes: dict[Any, str] = {}
        self.failures = 0  # workers that did not come up
        self.since = time.monotonic()  # when a worker was last seen

    def fit(self, packs: Collection[Pack]) -> None:
        """Start as many workers as there is room for and packs to run."""
        if self.gpus and not self.asked:
            self.workers = max(self.gpus, min(self.gpus * packs_per_gpu(packs), self.cpus))
        self.use = min(self.workers, len(packs))
        share = min(1.0, self.gpus / self.workers)
        options: dict[str, Any] = {"max_restarts": 0, "max_concurrency": 2, "num_cpus": 1, "num_gpus": share}
        self.worker = self.ray.remote(**options)(_Worker)
        self._hire()

    def idle(self) -> int:
        """Number of workers that are up and have nothing to do."""
        return len(self.free)

    def start(self, key: int, order: WorkOrder) -> None:
        """Send a pack to a worker."""
        actor = self.free.pop()
        self.running[key] = actor, actor.run.remote(order)

    def poll(self, seconds: float) -> list[tuple[int, Event]]:
        """The next event of every worker that has one."""
        ray = self.ray
        events: list[tuple[int, Event]] = []
        keys = {stream: key for key, (_, stream) in self.running.items()}
        awaited = [*keys, *self.coming]
        if not awaited:
            time.sleep(seconds)
            return []
        ready, _ = ray.wait(awaited, num_returns=1, timeout=seconds)
        if ready:
            ready, _ = ray.wait(awaited, num_returns=len(awaited), timeout=0)
            self.since = time.monotonic()
        for one in ready:
            if one in self.coming:
                self._arrived(one)
            else:
                events.append((keys[one], self._next(keys[one], one)))
        if not self.running and not self.free and time.monotonic() - self.since > START:
            raise UserError(f"no worker could start on the cluster within {START:g} seconds: is there room for one?")
        return events

    def _arrived(self, first: Any) -> None:
        """Take a worker that has come up, or start another in its place."""
        actor = self.coming.pop(first)
        try:
            self.nodes[actor] = self.ray.get(first)
            self.free.append(actor)
        except self.ray.exceptions.RayError as error:
            self.failures += 1
            if self.failures > 3 * self.workers:
                raise UserError(f"no worker can start on the cluster: {error}") from error
            self._hire()

    def _next(self, key: int, stream: Any) -> Event:
        """The next event of a worker's pack. After the last one the worker is free again."""
        actor, _ = self.running[key]
        try:
            event: Event = self.ray.get(next(stream))
        except self.ray.exceptions.RayTaskError as error:  # before it ran: a module that is not there, say
            event = Fault("exception", str(error))
        except self.ray.exceptions.RayError as error:
            del self.running[key]
            self._hire()
            return self._died(actor, error)
        if not isinstance(event, Checkpoint):  # the last
            del self.running[key]
            self.free.append(actor)
        return event

    def _died(self, actor: Any, error: Exception) -> Fault:
        """The fault of a worker that died: its own, or its node's."""
        living = {node["NodeID"] for node in self.ray.nodes() if node["Alive"]}
        if self.nodes.get(actor) not in living or "node has died" in str(error):
            return Fault("node", f"its node died: {error}")
        return Fault("worker", f"its worker died: {error}")

    def _hire(self) -> None:
        while len(self.free) + len(self.coming) + len(self.running) < self.use:
            actor: Any = self.worker.remote(self.folder)
            self.coming[actor.up.remote()] = actor

    def kill(self, key: int) -> None:
        """Kill the worker, and start another in its place."""
        if key in self.running:
            actor, _ = self.running.pop(key)
            self.ray.kill(actor)
            self._hire()

    def pause(self) -> None:
        """Ask every worker, beside what it does, to stop its pack where it can go on."""
        for actor, _ in self.running.values():
            actor.pause.remote()

    def close(self) -> None:
        """Leave the cluster, or stop Ray on this machine."""
        self.ray.shutdown()
        self.empty.cleanup()


class _Worker:
    """A process that has torch imported and runs packs."""

    def __init__(self, folder: str) -> None:
        """folder: the driver's, where this machine has it: the user's modules and files may be there."""
        if os.path.isdir(folder):
            os.chdir(folder)
        look_here()
        self.paused = threading.Event()

    def up(self) -> str:
        """The id of the node that the worker is on."""
        import ray

        return str(ray.get_runtime_context().get_node_id())

    def run(self, order: WorkOrder) -> Iterator[Event]:
        yield from attempt(order, self.paused.is_set)

    def pause(self) -> None:
        self.paused.set()
