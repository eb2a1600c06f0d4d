"""The actors that work for a run on Ray: those that start, those that are free, those that are given back."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from ..awake import Awake
from ..errors import UserError
from ..training.pack import Pack
from .handshake import Answer, differences, question
from .nodes import Nodes

log = logging.getLogger("lfombench")

SETTLE = 20.0  # seconds that workers wait for one that can import what they cannot


class Crew:
    """Starts actors until there are as many as are wanted, each asked first what it has: a node on which something
    differs gets no work. Ends some where fewer are wanted.
    """

    def __init__(self, ray: Any, folder: str, nodes: Nodes | None) -> None:
        """folder: the driver's, to which actors change where their machine has it. nodes: of a cluster."""
        self.ray, self.folder, self.nodes = ray, folder, nodes
        self.target: Mapping[str, int] = {}  # actors, by kind
        self.free: dict[str, list[Any]] = {"gpu": [], "cpu": []}
        self.busy: dict[Any, str] = {}  # by actor, its kind
        self.going: set[Any] = set()  # actors that were asked to stop their pack, and end then
        self.held: list[tuple[str, Any, Answer]] = []  # actors that cannot import some code: perhaps no node can
        self.starting: dict[Any, tuple[str, Any]] = {}  # actors that start, by the result of their first call
        self.at: dict[Any, str] = {}  # the node that an actor is on
        self.failures = 0  # actors that did not start
        self.warned = False  # that one lacks its GPU
        self.clock = Awake(1.0)
        self.heard = self.clock()  # when one last gave a sign of life

    def use(self, workers: Mapping[str, Any], packs: Collection[Pack]) -> None:
        """Be ready for these packs. workers: the actor classes by kind, with their resources."""
        self.workers, self.question = workers, question(packs)

    def up_or_soon(self) -> Counter[str]:
        """The number of actors of each kind, without those that were asked to stop."""
        kinds = [kind for kind, actors in self.free.items() for _ in actors]
        kinds += [kind for actor, kind in self.busy.items() if actor not in self.going]
        return Counter([*kinds, *(kind for kind, _ in self.starting.values()), *(kind for kind, *_ in self.held)])

    def up(self) -> Counter[str]:
        """The number of actors of each kind that have started."""
        return Counter([*self.busy.values(), *(kind for kind, actors in self.free.items() for _ in actors)])

    def want(self, target: Mapping[str, int]) -> None:
        """Have so many actors of each kind, from now on: start some, or give some back."""
        self.target = target
        there = self.up_or_soon()
        for kind, most in target.items():
            for _ in range(there[kind] - most):
                self._give_back(kind)
            for _ in range(most - there[kind]):
                options = {"label_selector": self.nodes.selector(kind)} if self.nodes else {}
                actor: Any = self.workers[kind].options(**options).remote(self.folder, kind)
                self.starting[actor.up.remote(self.question)] = kind, actor

    def leave(self, nodes: Collection[str]) -> None:
        """Let the actors on some nodes end as soon as they can."""
        for kind, actors in self.free.items():
            for actor in [actor for actor in actors if self.at[actor] in nodes]:
                self.free[kind].remove(actor)
                self.ray.kill(actor)
        for actor in [actor for actor in self.busy if self.at[actor] in nodes and actor not in self.going]:
            self._stop(actor)

    def take(self, kind: str) -> Any:
        """An actor that is free, to be busy from now on."""
        actor = self.free[kind].pop()
        self.busy[actor] = kind
        return actor

    def give(self, actor: Any) -> None:
        """An actor has ended its pack: it is free again, unless it was asked to stop."""
        if actor in self.going:
            self.lose(actor, kill=True)
        else:
            self.free[self.busy.pop(actor)].append(actor)

    def lose(self, actor: Any, kill: bool = False) -> None:
        """An actor is no more. kill: end it first."""
        if kill:
            self.ray.kill(actor)
        self.busy.pop(actor)
        self.going.discard(actor)

    def started(self, first: Any) -> None:
        """Add an actor that has started. first: its first call."""
        kind, actor = self.starting.pop(first)
        try:
            found: Answer = self.ray.get(first)
        except self.ray.exceptions.RayError as error:
            self.failures += 1
            if self.failures > 3 * max(1, sum(self.target.values())):
                raise UserError(f"no worker can start on the cluster: {error}") from error
            return
        self.at[actor] = found.node
        if found.lacking and not self.warned:
            self.warned = True
            log.warning("%s", found.lacking)
        if self.nodes and found.node in self.nodes.left_out:  # since it began to start
            self.ray.kill(actor)
        elif other := differences(self.question, found):
            self._leave_out(actor, found, "; ".join(other))
        elif found.missing:
            self.held.append((kind, actor, found))
        else:
            self.free[kind].append(actor)

    def settle(self) -> None:
        """Decide on actors that cannot import some code: where others can, their nodes are left out; where none can,
        they take what comes, and the jobs of that code fail and say why.
        """
        if not self.held:
            return
        if self.up():
            held, self.held = self.held, []
            for _, actor, found in held:
                self._leave_out(actor, found, "; ".join(sorted({*found.missing.values()})))
        elif not self.starting or self.clock() - self.heard > SETTLE:
            for kind, actor, _ in self.held:
                self.free[kind].append(actor)
            self.held, self.question = [], replace(self.question, cases={})

    def _give_back(self, kind: str) -> None:
        """End an actor: one that starts, or is free, or else one that works, as soon as its pack can go on later."""
        if starting := [first for first, (its, _) in self.starting.items() if its == kind]:
            self.ray.kill(self.starting.pop(starting[-1])[1])
        elif held := [one for one in self.held if one[0] == kind]:
            self.held.remove(held[-1])
            self.ray.kill(held[-1][1])
        elif self.free[kind]:
            self.ray.kill(self.free[kind].pop())
        elif busy := [actor for actor, its in self.busy.items() if its == kind and actor not in self.going]:
            self._stop(busy[-1])

    def _stop(self, actor: Any) -> None:
        self.going.add(actor)
        actor.pause.remote()

    def _leave_out(self, actor: Any, answer: Answer, why: str) -> None:
        """Give a node no work: its numbers would be those of something else. UserError where none is left."""
        assert self.nodes is not None  # on this machine nothing differs
        self.ray.kill(actor)
        self.nodes.leave_out(answer.node, answer.host, why)
        if not sum(self.nodes.room(1).values()):
            nodes = "\n  ".join(self.nodes.left_out.values())
            raise UserError(f"no node of the cluster has what this sweep is to be run with:\n  {nodes}")
