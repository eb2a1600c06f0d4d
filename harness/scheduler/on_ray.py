"""The executor on Ray: long-lived actors on this machine or on a cluster."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch

from ..errors import UserError
from ..spec.user_modules import look_here
from ..store.outcome import Outcome
from ..training.checkpoint import Checkpoint
from ..training.pack import Pack, WorkOrder
from . import devices
from .attached import Attached
from .crew import Crew
from .devices import cores, device, here, packs_per_gpu
from .fair_share import FairShare
from .faults import Event, Fault, run_pack
from .handshake import Answer, Question, answer, foreign
from .nodes import Nodes
from .packing import PlannedPack
from .pools import Pool
from .resources import Resources

log = logging.getLogger("lfombench")

START = 300.0  # seconds within which a worker must have started, where there is room for one
ADJUST = 0.5  # seconds from one look at how many workers are wanted to the next
GRACE = 120.0  # seconds for which a worker that starts is counted on
SOON = 10.0  # seconds without a worker after which a run says that it waits for one
ANSWER = 5.0  # seconds within which a cluster says which of its nodes live


class OnRay:
    """Runs packs on long-lived Ray actors, one per core or some per GPU, each with at most one pack."""

    def __init__(
        self,
        address: str | None = None,
        workers: int | None = None,
        resources: Resources | None = None,
        sweep: str = "",
        priority: int = 0,
        file: str | None = None,
    ) -> None:
        """Start Ray on this machine, or join the cluster at `address`. Raises NoRay where it cannot start here, and
        UserError where the cluster cannot be joined.

        workers: at most. Of a cluster, resources: the part that may be used. sweep, priority: as others see this run
        that want workers too. file: one that every node must see.
        """
        self.attached = Attached(address, workers or cores())
        ray, folder = self.attached.ray, self.attached.folder
        self.ray, self.most, self.resources = ray, workers, replace(resources or Resources(), workers=workers)
        self.nodes = None if address is None else Nodes(ray, self.resources, file)
        self.crew = Crew(ray, folder, self.nodes)
        self.fair = FairShare(ray, sweep, priority) if self.nodes else None
        self.running: dict[int, tuple[Any, Any, Pack]] = {}  # by key: the actor, the stream of events, the pack
        self.fitted = self.due = (
            0.0  # when it was made ready for packs, and when to look at how many workers are wanted
        )
        self.said = False  # that this run waits for room
        try:
            if self.nodes:
                self.nodes.refresh()
        except BaseException:
            self.close()
            raise

    @functools.cached_property
    def pools(self) -> list[Pool]:
        """What there is room for. Of a cluster, once its nodes have said what they have; UserError where one does not
        see the file, or none has what was asked for.
        """
        if self.nodes is None:
            return [here(self.most)]
        self.nodes.survey()
        return self.nodes.pools()

    @property
    def workers(self) -> Mapping[str, int]:
        """Workers that there are or soon will be, by the kind of their pool."""
        soon = self.crew.clock() < self.fitted + GRACE  # after it those that wait for room are none
        return self.crew.up_or_soon() if soon else self.crew.up()

    def fit(self, packs: Collection[PlannedPack]) -> None:
        """Choose what workers for these packs are given, and start some, once it is known what there is room for."""
        self.pools  # noqa: B018 - waits for what nodes say
        on_gpus = [planned.pack for planned in packs if planned.pool == "gpu"]
        self.per_gpu = self.resources.per_gpu or packs_per_gpu(on_gpus)
        given = {"gpu": 1 / self.per_gpu, "cpu": 0}
        actor: dict[str, Any] = {"max_restarts": 0, "max_concurrency": 2, "num_cpus": 1}
        workers = {kind: self.ray.remote(**actor, num_gpus=share)(_Worker) for kind, share in given.items()}
        asked = [planned.pack for planned in packs] if self.nodes else ()  # on this machine its code is that of this
        self.crew.use(workers, asked)  # process
        self.due, self.fitted = 0.0, self.crew.clock()
        self.expect(Counter(planned.pool for planned in packs))

    def expect(self, waiting: Mapping[str, int]) -> None:
        """Have as many workers as the packs that wait and run can keep busy, there is room for, and others leave."""
        if self.crew.clock() < self.due:
            return
        self.due = self.crew.clock() + ADJUST
        there, running = sum(waiting.values()), Counter(self.crew.busy.values())
        room = self._room()
        if self.nodes and self.fair:
            allowed = self.resources.limit(self.nodes.grown(room), self.per_gpu)
            wants = {kind: min(there + running[kind], most) for kind, most in allowed.items()}
            self.fair.update(wants, self.crew.up(), room)
            wants = {kind: self.fair.allowed(kind, number, room[kind]) for kind, number in wants.items()}
        else:
            wants = {kind: min(there + running[kind], most) for kind, most in room.items()}
        self.crew.want(wants)

    def idle(self) -> dict[str, int]:
        """Number of workers of each kind that have started and run no pack."""
        return {kind: len(actors) for kind, actors in self.crew.free.items()}

    def start(self, key: int, order: WorkOrder, kind: str) -> None:
        """Send a pack to an idle worker. key: names the pack in `poll` and `kill`."""
        actor = self.crew.take(kind)
        self.running[key] = actor, actor.run.remote(order), order.pack

    def poll(self, seconds: float) -> list[tuple[int, Event]]:
        """Wait until a worker has an event; the next event of every pack that has one, by its key."""
        ray, crew, nodes = self.ray, self.crew, self.nodes
        crew.settle()
        if nodes:
            nodes.refresh()
            if nodes.leaving:
                crew.leave(nodes.leaving)
        events: list[tuple[int, Event]] = []
        keys = {stream: key for key, (_, stream, _) in self.running.items()}
        awaited = [*keys, *crew.starting, *(nodes.asked if nodes else ())]
        if not awaited:
            time.sleep(seconds)
            self._check()
            return []
        ready, _ = ray.wait(awaited, num_returns=1, timeout=seconds)
        if ready:
            ready, _ = ray.wait(awaited, num_returns=len(awaited), timeout=0)
        for ref in ready:
            if ref in crew.starting:
                crew.heard = crew.clock()
                crew.started(ref)
            elif nodes and ref in nodes.asked:
                nodes.hear(ref)
            else:
                crew.heard = crew.clock()
                events.append((keys[ref], self._next(keys[ref], ref)))
        self._check()
        return events

    def _room(self) -> dict[str, int]:
        """How many workers of each kind there is room for."""
        if self.nodes:
            return self.nodes.room(self.per_gpu)
        pool, gpus = self.pools[0], len(devices.gpus())
        return {pool.kind: min(pool.workers, gpus * self.per_gpu) if gpus and not self.most else pool.workers}

    def _check(self) -> None:
        """Say that this run waits for room on the cluster; UserError where there is room, and no worker starts, or no
        node that may get work, and none comes.
        """
        crew = self.crew
        if self.nodes and self.nodes.view.coming:
            crew.heard = crew.clock()
        silent = crew.clock() - crew.heard
        if crew.busy or crew.held or any(crew.free.values()) or silent < SOON:
            return
        free = self.nodes.free if self.nodes else self.pools[0].workers
        taken = not free and any(self._room().values())
        if silent > START and not taken:
            out = "".join(f"\n  {why}" for why in self.nodes.left_out.values()) if self.nodes else ""
            raise UserError(f"no worker could start within {START:g} seconds, and {free} CPUs are free{out}")
        if taken and not self.said:
            self.said = True
            others = self.fair.others.values() if self.fair else ()
            who = "; ".join(f"sweep {one.sweep} has {sum(one.has.values())} workers" for one in others)
            log.warning("no worker has started yet, and no CPU of the cluster is free%s", who and f" ({who})")
        if taken:
            crew.heard = crew.clock() - SOON

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
        if self.crew.at.get(actor) not in self._living() or "node has died" in str(error):
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
        """Kill the worker of a pack; another starts in its place."""
        if key in self.running:
            actor, _, _ = self.running.pop(key)
            self.crew.lose(actor, kill=True)

    def pause(self) -> None:
        """Ask every worker to stop its pack at the next moment from which it can be resumed."""
        for actor, _, _ in self.running.values():
            actor.pause.remote()

    def close(self) -> None:
        """Leave the cluster, or stop Ray on this machine."""
        if self.fair and not self.attached.closed:
            self.fair.leave()
        self.attached.close()


class _Worker:
    """A process that has torch imported and runs packs."""

    def __init__(self, folder: str, kind: str) -> None:
        """Change to the driver's folder, where this machine has it: the user's modules and files may be there."""
        self.device = device() if kind == "gpu" else torch.device("cpu")
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
        if given and self.device.type == "cpu":
            lacking = f"Ray gave a worker a GPU on {socket.gethostname()} that PyTorch cannot use: it runs on the CPU"
        return answer(asked, str(context.get_node_id()), lacking)

    def run(self, order: WorkOrder) -> Iterator[Event]:
        """Run a pack; yield its checkpoints, then how it ends."""
        yield from run_pack(order, self.paused.is_set, self.device)

    def pause(self) -> None:
        """Stop the pack that runs at the next moment from which it can be resumed."""
        self.paused.set()
