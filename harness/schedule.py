"""Packs to finished packs: in this process, or on Ray. The only place that catches what a solver or task may raise."""

from __future__ import annotations

import math
import os
import socket
import traceback
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from statistics import median
from typing import Any, Protocol

import torch

from . import plan
from .errors import UserError
from .pack import Cost, Pack
from .record import Outcome, execute, failure

ATTEMPTS = 3  # for a pack whose worker dies under it
ABREAST = 4  # packs on one GPU at most
BUSY = 1 << 20  # numbers in a vector of a step (members x prompts x d) from which one pack keeps a GPU busy


Settle = Callable[[Pack], Pack]


class Executor(Protocol):
    """Runs packs from a queue that may grow meanwhile; gives each back with its outcome or a traceback."""

    workers: int

    def run(self, queue: deque[Pack], settle: Settle) -> Iterator[tuple[Pack, Outcome | str]]:
        """Finished packs, in the order they finish."""

    def close(self) -> None:
        """Let go of the workers."""


class OutOfMemory(str):
    """The traceback of a pack that was too wide for its device."""


class Desk(Protocol):
    """What a scheduler asks of whoever keeps the record."""

    def settle(self, pack: Pack) -> Pack:
        """A pack as it is sent to a worker."""

    def too_wide(self, pack: Pack) -> None:
        """A pack ran out of memory."""


def outcomes(queue: deque[Pack], executor: Executor, desk: Desk) -> Iterator[tuple[Pack, Outcome]]:
    """Every pack's outcome. A pack that raises is split, until the job that is to blame stands alone and fails.

    One that runs out of memory is halved, and so are those of its structure that still wait.
    """
    for pack, result in executor.run(queue, desk.settle):
        if isinstance(result, Outcome):
            yield pack, result
        elif len(pack.jobs) == 1:
            yield pack, failure(pack, result)
        else:
            if isinstance(result, OutOfMemory):
                desk.too_wide(pack)
                alike = [p for p in queue if p.first.structure == pack.first.structure and len(p.jobs) > 1]
                for waiting in alike:
                    queue.remove(waiting)
                    queue.extend(halves(waiting))
            queue.extendleft(reversed(halves(pack)))


def halves(pack: Pack) -> list[Pack]:
    """Two packs of half the jobs each."""
    half = len(pack.jobs) // 2
    return [
        replace(pack, jobs=part, expected=_scaled(pack, len(part))) for part in (pack.jobs[:half], pack.jobs[half:])
    ]


def _scaled(pack: Pack, jobs: int) -> Cost | None:
    """What a part of a pack should cost."""
    share = jobs / len(pack.jobs)
    was = pack.expected
    return was and replace(was, seconds=was.seconds * share, low=was.low * share, high=was.high * share)


def attempt(pack: Pack) -> Outcome | str:
    """Run a pack here; a traceback where it raises."""
    torch.set_num_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = False  # ten bits of mantissa are a protocol's business, not a default
    try:
        return execute(pack, device())
    except (Exception, SystemExit) as error:
        text = traceback.format_exc()
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            return OutOfMemory(text)
        return text


class InProcess:
    """One pack after the other, in this process."""

    workers = 1

    def run(self, queue: deque[Pack], settle: Settle) -> Iterator[tuple[Pack, Outcome | str]]:
        """Finished packs, in the queue's order."""
        while queue:
            pack = queue.popleft()
            yield pack, attempt(settle(pack))

    def close(self) -> None:
        """Nothing to let go of."""


class OnRay:
    """Long-lived actors, one per core or some per GPU, each with at most one pack in flight."""

    def __init__(self, address: str | None = None, workers: int | None = None) -> None:
        """Start Ray on this machine, or join the cluster at `address`."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # or every worker without a GPU warns
        import ray

        self.ray = ray
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if address is None:
            ray.init(
                address="local",
                include_dashboard=False,
                num_cpus=workers or cores(),
                object_store_memory=256 << 20,
                **quiet,
            )
        else:
            reachable(address)
            try:
                ray.init(address=address, **quiet)
            except (ConnectionError, RuntimeError, TimeoutError, ValueError) as error:
                raise UserError(f"--address {address}: cannot join the Ray cluster there: {error}") from error
        resources = ray.cluster_resources()
        self.gpus, self.cpus = int(resources.get("GPU", 0)), max(1, int(resources.get("CPU", 1)))
        self.asked = workers
        self.workers = workers or self.gpus or self.cpus

    def run(self, queue: deque[Pack], settle: Settle) -> Iterator[tuple[Pack, Outcome | str]]:
        """Finished packs, as they come. A worker gets a pack once it is up: none waits for room on the cluster."""
        ray = self.ray
        if self.gpus and not self.asked:
            self.workers = max(self.gpus, min(self.gpus * abreast(queue), self.cpus))
        share = min(1.0, self.gpus / self.workers)
        worker = ray.remote(max_restarts=0, num_cpus=1, num_gpus=share)(_Worker)
        awaited: dict[Any, tuple[Any, Pack | None]] = {}
        idle: list[Any] = []
        deaths: Counter[str] = Counter()

        def hire() -> None:
            actor = worker.remote()
            awaited[actor.up.remote()] = (actor, None)

        for _ in range(min(self.workers, len(queue))):
            hire()
        while queue or any(pack for _, pack in awaited.values()):
            while queue and idle:
                actor, pack = idle.pop(), queue.popleft()
                awaited[actor.run.remote(settle(pack))] = (actor, pack)
            ready, _ = ray.wait(list(awaited), num_returns=1, timeout=1.0)
            for reference in ready:
                actor, done = awaited.pop(reference)
                try:
                    result: Outcome | str = ray.get(reference)
                    idle.append(actor)
                except ray.exceptions.RayError as error:
                    hire()
                    name = done.id if done else "start"
                    deaths[name] += 1
                    if done is None and deaths[name] > ATTEMPTS * self.workers:
                        raise UserError(f"no worker can start on the cluster: {error}") from error
                    if done and deaths[name] < ATTEMPTS:
                        queue.appendleft(done)
                        continue
                    result = f"its worker died {ATTEMPTS} times: {error}"
                if done:
                    yield done, result

    def close(self) -> None:
        """Leave the cluster, or stop Ray on this machine."""
        self.ray.shutdown()


def abreast(packs: Collection[Pack]) -> int:
    """How many packs share a GPU: as many as keep it busy. While one is compiled another runs."""
    sizes = [pack.members * pack.first.protocol.batch * pack.first.task.d for pack in packs]
    return max(1, min(ABREAST, math.ceil(BUSY / median(sizes)))) if sizes else 1


class _Worker:
    """A process that has torch imported and runs packs."""

    def up(self) -> None:
        pass

    def run(self, pack: Pack) -> Outcome | str:
        return attempt(pack)


def device() -> torch.device:
    """Where packs run in this process."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_name() -> str:
    """Of that device, as the jobs table has it."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def memory() -> float:
    """Bytes that all packs at once may take: half of what the device, or else the machine, has to give."""
    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()[0] / 2
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2
    except (ValueError, OSError):
        return float(plan.MEMORY)


def lanes() -> int:
    """Packs that this machine runs at once at most: one a core, or several a GPU."""
    return ABREAST * torch.cuda.device_count() or cores()


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def reachable(address: str, seconds: float = 10.0) -> None:
    """UserError where nothing listens at `host:port`, in little time: Ray itself would try for minutes."""
    host, _, port = address.rpartition("://")[2].partition("/")[0].rpartition(":")
    if address == "auto":
        return
    if not host or not port.isdigit():
        raise UserError(f"--address {address}: must be host:port, or auto on a machine of the cluster")
    try:
        socket.create_connection((host, int(port)), timeout=seconds).close()
    except OSError as error:
        raise UserError(f"--address {address}: nothing listens there: {error}") from error
