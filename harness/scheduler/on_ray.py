"""The executor on Ray: long-lived actors on this machine or on a cluster."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Collection, Iterator
from typing import Any

from ..errors import UserError
from ..signals import guarded
from ..spec.user_modules import look_here
from ..store.outcome import Outcome
from ..training.checkpoint import Checkpoint
from ..training.pack import Pack, WorkOrder
from .address import reachable
from .crew import Crew
from .devices import cores, gpus, packs_per_gpu
from .faults import Event, Fault, run_pack
from .handshake import Answer, Question, answer, foreign
from .ray_start import NoRay, start

log = logging.getLogger("lfombench")

START = 300.0  # seconds within which a worker must have started
ANSWER = 5.0  # seconds within which a cluster says which of its nodes live


class OnRay:
    """Runs packs on long-lived Ray actors, one per core or some per GPU, each with at most one pack."""

    def __init__(self, address: str | None = None, workers: int | None = None) -> None:
        """Start Ray on this machine, or join the cluster at `address`. Raises NoRay where it cannot start here, and
        UserError where the cluster cannot be joined.
        """
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # otherwise every worker without a GPU warns
        os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 starves workers beside whatever else runs here
        try:
            import ray
        except ImportError as error:  # as for a Python that Ray does not support yet
            raise NoRay(f"Ray cannot be imported: {error}") from error
        self.ray = ray
        if address is not None:
            reachable(address)
        # Ray puts the driver's folder first on its workers' path, where a user's torch.py would shadow torch: start Ray
        # from an empty folder.
        self.folder, self.empty = os.getcwd(), tempfile.TemporaryDirectory(prefix="lfombench-")
        self.own = ""  # what Ray keeps its files in, where it started here
        try:
            with guarded(), contextlib.chdir(self.empty.name):
                if address is None:
                    self.own = start(workers or cores())
                else:
                    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:  # Exception itself among them
            self.empty.cleanup()
            if address is None:
                raise
            raise UserError(f"--address {address}: cannot join the Ray cluster there: {error}") from error
        self.crew, self.requested = Crew(ray, self.folder), workers
        self.gpus, self.cpus = self.crew.capacity()
        self.workers = workers or self.gpus or self.cpus
        self.running: dict[int, tuple[Any, Any, Pack]] = {}  # by key: the actor, the stream of events, the pack

    def fit(self, packs: Collection[Pack]) -> None:
        """Start a worker for each pack, as many as the machines have room for."""
        if self.gpus and not self.requested:
            self.workers = max(self.gpus, min(self.gpus * packs_per_gpu(packs), self.cpus))
        share = min(1.0, self.gpus / self.workers)
        options: dict[str, Any] = {"max_restarts": 0, "max_concurrency": 2, "num_cpus": 1, "num_gpus": share}
        asked = () if self.own else packs  # on this machine its code is that of this process
        self.crew.want(min(self.workers, len(packs)), self.ray.remote(**options)(_Worker), asked)

    def idle(self) -> int:
        """Number of workers that have started and run no pack."""
        return len(self.crew.free)

    def start(self, key: int, order: WorkOrder) -> None:
        """Send a pack to an idle worker. key: names the pack in `poll` and `kill`."""
        actor = self.crew.take()
        self.running[key] = actor, actor.run.remote(order), order.pack

    def poll(self, seconds: float) -> list[tuple[int, Event]]:
        """Wait until a worker has an event; the next event of every pack that has one, by its key."""
        ray, crew = self.ray, self.crew
        crew.settle()
        events: list[tuple[int, Event]] = []
        keys = {stream: key for key, (_, stream, _) in self.running.items()}
        awaited = [*keys, *crew.starting]
        if not awaited:
            time.sleep(seconds)
            return []
        ready, _ = ray.wait(awaited, num_returns=1, timeout=seconds)
        if ready:
            ready, _ = ray.wait(awaited, num_returns=len(awaited), timeout=0)
            crew.heard = crew.clock()
        for ref in ready:
            if ref in crew.starting:
                crew.up(ref)
            else:
                events.append((keys[ref], self._next(keys[ref], ref)))
        if not (self.running or crew.free or crew.held) and crew.clock() - crew.heard > START:
            raise UserError(f"no worker could start on the cluster within {START:g} seconds: is there room for one?")
        return events

    def _next(self, key: int, stream: Any) -> Event:
        """The next event of a pack. After its last event the worker is free again."""
        actor, _, pack = self.running[key]
        try:
            event: Event = self.ray.get(next(stream))
        except self.ray.exceptions.RayTaskError as error:  # before the pack ran, as where a module is missing
            event = Fault("exception", str(error))
        except self.ray.exceptions.RayError as error:
            del self.running[key]
            self.crew.lose(actor)
            return self._died(actor, error)
        if isinstance(event, Outcome) and foreign(pack, event.code):
            self.kill(key)
            return Fault("code", "its worker ran other code than this process has: has it changed since the run began?")
        if isinstance(event, Fault) and event.kind == "device":  # which only another process can use again
            self.kill(key)
        elif not isinstance(event, Checkpoint):  # the pack's last event
            del self.running[key]
            self.crew.give(actor)
        return event

    def _died(self, actor: Any, error: Exception) -> Fault:
        """The fault that a worker's death amounts to: of kind node where its node died, else of kind worker."""
        if self.crew.nodes.get(actor) not in self._living() or "node has died" in str(error):
            return Fault("node", f"its node died: {error}")
        return Fault("worker", f"its worker died: {error}")

    def _living(self) -> set[str]:
        """The ids of the nodes that live. None where no answer comes, as where all of Ray was told to end: Ray would
        ask for a minute, then end this process at once.
        """
        answer: list[set[str]] = []

        def ask() -> None:
            with contextlib.suppress(self.ray.exceptions.RayError):  # no answer either
                answer.append({node["NodeID"] for node in self.ray.nodes() if node["Alive"]})

        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asking.join(ANSWER)
        return answer[0] if answer else set()

    def kill(self, key: int) -> None:
        """Kill the worker of a pack, and start another in its place."""
        if key in self.running:
            actor, _, _ = self.running.pop(key)
            self.crew.lose(actor, kill=True)

    def pause(self) -> None:
        """Ask every worker to stop its pack at the next moment from which it can be resumed."""
        for actor, _, _ in self.running.values():
            actor.pause.remote()

    def close(self) -> None:
        """Leave the cluster, or stop Ray on this machine."""
        self.ray.shutdown()
        self.empty.cleanup()
        if self.own:
            shutil.rmtree(self.own, ignore_errors=True)


class _Worker:
    """A process that has torch imported and runs packs."""

    def __init__(self, folder: str) -> None:
        """Change to the driver's folder, where this machine has it: the user's modules and files may be there."""
        if os.path.isdir(folder):
            os.chdir(folder)
        look_here()
        self.paused = threading.Event()

    def up(self, asked: Question) -> Answer:
        """What the worker has of what it should have."""
        import ray

        context = ray.get_runtime_context()
        given = context.get_accelerator_ids().get("GPU")
        lacking = ""
        if given and not gpus():
            lacking = (
                f"Ray counts a GPU on {socket.gethostname()} that PyTorch cannot use: its workers run on the CPU. "
                "Is PyTorch installed with CUDA there, and is the driver new enough?"
            )
        return answer(asked, str(context.get_node_id()), lacking)

    def run(self, order: WorkOrder) -> Iterator[Event]:
        """Run a pack; yield its checkpoints, then how it ends."""
        yield from run_pack(order, self.paused.is_set)

    def pause(self) -> None:
        """Stop the pack that runs at the next moment from which it can be resumed."""
        self.paused.set()
