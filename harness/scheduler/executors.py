"""Where packs run: in this process, or in actors on Ray."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections.abc import Collection, Iterator
from statistics import median
from typing import Any, Protocol

import torch

from ..errors import UserError
from ..signals import guarded
from ..training.checkpoint import Checkpoint
from ..training.pack import Pack
from . import packing
from .address import reachable
from .faults import Event, Fault, attempt

ABREAST = 4  # packs on one GPU at most
BUSY = 1 << 20  # numbers in a vector of a step (members x prompts x d) from which one pack keeps a GPU busy
START = 300.0  # seconds in which a worker must be up


class Executor(Protocol):
    """Runs packs, each under a key of the scheduler's."""

    workers: int

    def fit(self, packs: Collection[Pack]) -> None:
        """Told what is to be run, before the first pack."""

    def idle(self) -> int:
        """How many packs it can take now."""

    def start(self, key: int, pack: Pack) -> None:
        """Run a pack."""

    def poll(self, seconds: float) -> list[tuple[int, Event]]:
        """What happened; waits so long for something to."""

    def kill(self, key: int) -> None:
        """End a pack at once; nothing more is heard of it."""

    def pause(self) -> None:
        """Ask all packs to stop where they can go on."""

    def close(self) -> None:
        """Let go of the workers."""


class InProcess:
    """One pack after the other, in this process."""

    workers = 1

    def __init__(self) -> None:
        self.running: tuple[int, Iterator[Event]] | None = None
        self.paused = False

    def fit(self, packs: Collection[Pack]) -> None:
        """Nothing to prepare."""

    def idle(self) -> int:
        """One, or none."""
        return 0 if self.running else 1

    def start(self, key: int, pack: Pack) -> None:
        """Run a pack when polled."""
        self.running = key, attempt(pack, lambda: self.paused)

    def poll(self, seconds: float) -> list[tuple[int, Event]]:
        """Run until something happens."""
        if not self.running:
            time.sleep(seconds)
            return []
        key, events = self.running
        for event in events:
            return [(key, event)]
        self.running = None
        return []

    def kill(self, key: int) -> None:
        """A pack in this process cannot be ended; it is forgotten."""
        self.running = None

    def pause(self) -> None:
        """The pack that runs notices between its steps."""
        self.paused = True

    def close(self) -> None:
        """Nothing to let go of."""


class OnRay:
    """Long-lived actors, one per core or some per GPU, each with at most one pack."""

    def __init__(self, address: str | None = None, workers: int | None = None) -> None:
        """Start Ray on this machine, or join the cluster at `address`."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # or every worker without a GPU warns
        import ray

        self.ray = ray
        options: dict[str, Any] = {"address": "local", "include_dashboard": False, "object_store_memory": 256 << 20}
        options["num_cpus"] = workers or cores()
        failure = "Ray cannot start on this machine"
        if address is not None:
            reachable(address)
            options, failure = {"address": address}, f"--address {address}: cannot join the Ray cluster there"
        try:
            with guarded():
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
        """As many workers as there is room for and use."""
        if self.gpus and not self.asked:
            self.workers = max(self.gpus, min(self.gpus * abreast(packs), self.cpus))
        self.use = min(self.workers, len(packs))
        share = min(1.0, self.gpus / self.workers)
        options: dict[str, Any] = {"max_restarts": 0, "max_concurrency": 2, "num_cpus": 1, "num_gpus": share}
        self.worker = self.ray.remote(**options)(_Worker)
        self._hire()

    def idle(self) -> int:
        """Workers that are up and have nothing to do: none waits for room on the cluster."""
        return len(self.free)

    def start(self, key: int, pack: Pack) -> None:
        """Send a pack to a worker."""
        actor = self.free.pop()
        self.running[key] = actor, actor.run.remote(pack)

    def poll(self, seconds: float) -> list[tuple[int, Event]]:
        """Of all workers that have something to tell, the next thing of each."""
        ray, found = self.ray, []
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
                found.append((keys[one], self._next(keys[one], one)))
        if not self.running and not self.free and time.monotonic() - self.since > START:
            raise UserError(f"no worker could start on the cluster within {START:g} seconds: is there room for one?")
        return found

    def _arrived(self, first: Any) -> None:
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
        """What a worker yields next. After the last it is free again."""
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
        """Whether it was the worker or its node."""
        living = {node["NodeID"] for node in self.ray.nodes() if node["Alive"]}
        if self.nodes.get(actor) not in living or "node has died" in str(error):
            return Fault("node", f"its node died: {error}")
        return Fault("worker", f"its worker died: {error}")

    def _hire(self) -> None:
        while len(self.free) + len(self.coming) + len(self.running) < self.use:
            actor: Any = self.worker.remote()
            self.coming[actor.up.remote()] = actor

    def kill(self, key: int) -> None:
        """Kill the worker, and start another in its place."""
        if key in self.running:
            actor, _ = self.running.pop(key)
            self.ray.kill(actor)
            self._hire()

    def pause(self) -> None:
        """Workers hear of it beside what they do."""
        for actor, _ in self.running.values():
            actor.pause.remote()

    def close(self) -> None:
        """Leave the cluster, or stop Ray on this machine."""
        self.ray.shutdown()


class _Worker:
    """A process that has torch imported and runs packs."""

    def __init__(self) -> None:
        self.paused = threading.Event()

    def up(self) -> str:
        """The node it is on."""
        import ray

        return str(ray.get_runtime_context().get_node_id())

    def run(self, pack: Pack) -> Iterator[Event]:
        yield from attempt(pack, self.paused.is_set)

    def pause(self) -> None:
        self.paused.set()


def abreast(packs: Collection[Pack]) -> int:
    """How many packs share a GPU: as many as keep it busy. While one is compiled another runs."""
    sizes = [pack.members * pack.first.protocol.batch * pack.first.task.d for pack in packs]
    return max(1, min(ABREAST, math.ceil(BUSY / median(sizes)))) if sizes else 1


def device_name() -> str:
    """Of the device here, as the jobs table has it."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def memory() -> float:
    """Bytes that all packs at once may take: half of what the device, or else the machine, has to give."""
    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()[0] / 2
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2
    except (ValueError, OSError):
        return float(packing.MEMORY)


def lanes() -> int:
    """Packs that this machine runs at once at most: one a core, or several a GPU."""
    return ABREAST * torch.cuda.device_count() or cores()


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
