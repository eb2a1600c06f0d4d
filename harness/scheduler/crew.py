"""The actors that work for a run on Ray: those that start, those that are free, and the nodes that get none."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from ..awake import Awake
from ..errors import UserError
from ..training.pack import Pack
from .handshake import Answer, differences, question

log = logging.getLogger("lfombench")

SETTLE = 20.0  # seconds that workers wait for one that can import what they cannot


class Crew:
    """Starts actors until there are as many as are wanted, each asked first what it has: a node on which something
    differs gets no work.
    """

    def __init__(self, ray: Any, folder: str) -> None:
        """folder: the driver's, to which actors change where their machine has it."""
        self.ray, self.folder = ray, folder
        self.target = 0
        self.free: list[Any] = []
        self.busy: set[Any] = set()
        self.held: list[tuple[Any, Answer]] = []  # actors that cannot import some code: perhaps no node can
        self.starting: dict[Any, Any] = {}  # actors that start, by the result of their first call
        self.nodes: dict[Any, str] = {}  # id of the node that an actor is on
        self.left_out: dict[str, str] = {}  # nodes that get no work, and what differs there
        self.failures = 0  # actors that did not start
        self.warned = False  # that one lacks its GPU
        self.clock = Awake(1.0)
        self.heard = self.clock()  # when one last gave a sign of life

    def capacity(self) -> tuple[int, int]:
        """The GPUs and CPUs of the nodes that live and may get work."""
        nodes = [node for node in self.ray.nodes() if node["Alive"] and node["NodeID"] not in self.left_out]
        gpus, cpus = (int(sum(node["Resources"].get(kind, 0) for node in nodes)) for kind in ("GPU", "CPU"))
        return gpus, cpus

    def want(self, number: int, worker: Any, packs: Collection[Pack]) -> None:
        """Have so many actors, from now on, for these packs. worker: the actor class, with its resources."""
        self.target, self.worker, self.question = number, worker, question(packs)
        self.fill()

    def fill(self) -> None:
        """Start actors until there are as many as are wanted."""
        elsewhere = {"label_selector": {"ray.io/node-id": f"!in({','.join(self.left_out)})"}} if self.left_out else {}
        while len(self.free) + len(self.busy) + len(self.held) + len(self.starting) < self.target:
            actor: Any = self.worker.options(**elsewhere).remote(self.folder)
            self.starting[actor.up.remote(self.question)] = actor

    def take(self) -> Any:
        """An actor that is free, to be busy from now on."""
        actor = self.free.pop()
        self.busy.add(actor)
        return actor

    def give(self, actor: Any) -> None:
        """An actor is free again."""
        self.busy.discard(actor)
        self.free.append(actor)

    def lose(self, actor: Any, kill: bool = False) -> None:
        """An actor is no more, and another starts in its place. kill: end it first."""
        if kill:
            self.ray.kill(actor)
        self.busy.discard(actor)
        self.fill()

    def up(self, first: Any) -> None:
        """Add an actor that has started, or start another in place of one that could not. first: its first call."""
        actor = self.starting.pop(first)
        try:
            found: Answer = self.ray.get(first)
        except self.ray.exceptions.RayError as error:
            self.failures += 1
            if self.failures > 3 * max(1, self.target):
                raise UserError(f"no worker can start on the cluster: {error}") from error
            return self.fill()
        self.nodes[actor] = found.node
        if found.lacking and not self.warned:
            self.warned = True
            log.warning("%s", found.lacking)
        if other := differences(self.question, found):
            self._leave_out(actor, found, "; ".join(other))
        elif found.missing:
            self.held.append((actor, found))
        else:
            self.free.append(actor)

    def settle(self) -> None:
        """Decide on actors that cannot import some code: where others can, their nodes are left out; where none can,
        they take what comes, and the jobs of that code fail and say why.
        """
        if self.held and (self.free or self.busy):
            held, self.held = self.held, []
            for actor, found in held:
                self._leave_out(actor, found, "; ".join(sorted({*found.missing.values()})))
        elif self.held and (not self.starting or self.clock() - self.heard > SETTLE):
            self.free += [actor for actor, _ in self.held]
            self.held, self.question = [], replace(self.question, cases={})
        elif self.left_out and not (self.free or self.busy):
            self._check()

    def _leave_out(self, actor: Any, node: Answer, why: str) -> None:
        """Give a node no work: its numbers would be those of something else. UserError where none is left."""
        self.ray.kill(actor)
        if node.node not in self.left_out:
            self.left_out[node.node] = f"{node.host}: {why}"
            log.warning("%s gets no work: %s", node.host, why)
            self._check()
        self.fill()

    def _check(self) -> None:
        """Want no more actors than nodes that are not left out have room for; UserError where none is left."""
        _, cpus = self.capacity()
        if not cpus:
            nodes = "\n  ".join(self.left_out.values())
            raise UserError(f"no node of the cluster has what this sweep is to be run with:\n  {nodes}")
        self.target = min(self.target, cpus)
