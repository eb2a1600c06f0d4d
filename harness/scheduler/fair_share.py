"""Sweeps that share a cluster: each tells the others how many workers it could use, and takes its share.

What they say is kept by a small actor of one of the drivers. When that driver ends, another starts one anew: nothing is
lost but what each says again two seconds later, and nothing stays on the cluster.
"""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from ..awake import Awake

BEAT = 2.0  # seconds from one word of a driver to the next
PATIENCE = 15.0  # seconds after which one that is silent counts no more
NAME, NAMESPACE = "lfombench sweeps", "lfombench"

Counts = Mapping[str, int]  # by the kind of workers
Plain = dict[str, Any]  # a claim as it is sent: the drivers may be of several versions


@dataclass(frozen=True)
class Claim:
    """What a driver says."""

    sweep: str
    priority: int
    wants: Counts  # workers that it could keep busy
    has: Counts  # workers that it has
    room: Counts  # workers that the cluster has room for, as far as it knows

    @staticmethod
    def of(plain: Plain) -> Claim:
        """What was sent, without what only another version knows."""
        return Claim(**{field.name: plain[field.name] for field in fields(Claim)})


def fair(wants: Mapping[str, tuple[int, int]], room: int) -> dict[str, int]:
    """Workers for each driver: as many as it wants where there is room for all. Else those of a higher priority come
    first, and those of one priority get the same number, or what they want, if that is less.

    wants: by driver, its priority and the number that it wants. Drivers come in the order of their names.
    """
    shares = dict.fromkeys(wants, 0)
    for priority in sorted({priority for priority, _ in wants.values()}, reverse=True):
        hungry = sorted(name for name, (its, number) in wants.items() if its == priority and number > 0)
        while hungry and room:
            each = max(1, room // len(hungry))
            for name in hungry[:room]:
                given = min(each, wants[name][1] - shares[name], room)
                shares[name] += given
                room -= given
            hungry = [name for name in hungry if shares[name] < wants[name][1]]
    return shares


class Register:
    """What the drivers of a cluster say; lives in an actor."""

    def __init__(self) -> None:
        self.clock = Awake(BEAT)
        self.claims: dict[str, tuple[float, Plain]] = {}

    def tell(self, name: str, claim: Plain | None) -> dict[str, Plain]:
        """Note what a driver says, None when it ends; what all say that have been heard lately."""
        now = self.clock()
        self.claims = {other: said for other, said in self.claims.items() if now - said[0] < PATIENCE and other != name}
        if claim:
            self.claims[name] = now, claim
        return {other: said for other, (_, said) in self.claims.items()}


class FairShare:
    """How many workers this driver may have, beside others on the cluster."""

    def __init__(self, ray: Any, sweep: str, priority: int) -> None:
        self.ray, self.sweep, self.priority = ray, sweep, priority
        self.name = f"{uuid.uuid1().time:020d} {socket.gethostname()} {os.getpid()}"  # those that came first are first
        self.others: dict[str, Claim] = {}
        self.register: Any = None
        self.answer: Any = None  # of the last word
        self.clock = Awake(BEAT)
        self.said: float | None = None

    def update(self, wants: Counts, has: Counts, room: Counts) -> None:
        """Say what this driver wants and has, from time to time, and hear what others do. It waits for no answer, and
        says nothing before its first workers have begun to start: the register would take a core from them.
        """
        if self.said is None:
            self.said = self.clock()
        if self.answer is not None:
            ready, _ = self.ray.wait([self.answer], timeout=0)
            if ready:
                self._hear()
            elif self.clock() - self.said > PATIENCE:  # the link to it is cut
                self.register = self.answer = None
                self.others = {}
        if self.answer is None and self.clock() - self.said >= BEAT:
            self.said = self.clock()
            self.answer = self._tell(Claim(self.sweep, self.priority, dict(wants), dict(has), dict(room)))

    def allowed(self, kind: str, wants: int, room: int) -> int:
        """How many workers of a kind this driver may have: its share of the room, and more only where others have
        theirs, as for nodes that may come.
        """
        claims = {name: (claim.priority, claim.wants.get(kind, 0)) for name, claim in self.others.items()}
        room = max(room, *(claim.room.get(kind, 0) for claim in self.others.values()), 0)  # it may use a part alone
        shares = fair(claims | {self.name: (self.priority, wants)}, room)
        short = any(claim.has.get(kind, 0) < shares[name] for name, claim in self.others.items())
        return shares[self.name] if short else wants

    def leave(self) -> None:
        """Tell the others that this driver ends."""
        if self.others and (answer := self._tell(None)) is not None:
            self.ray.wait([answer], timeout=BEAT)

    def _hear(self) -> None:
        answer, self.answer = self.answer, None
        try:
            said = self.ray.get(answer)
            self.others = {name: Claim.of(plain) for name, plain in said.items() if name != self.name}
        except self.ray.exceptions.RayError:  # the driver that had the actor has ended
            self.register = None

    def _tell(self, claim: Claim | None) -> Any:
        """Send a word to the register, which is made where there is none."""
        try:
            if self.register is None:
                actor = self.ray.remote(num_cpus=0, max_restarts=0)(Register)
                self.register = actor.options(name=NAME, namespace=NAMESPACE, get_if_exists=True).remote()
            return self.register.tell.remote(self.name, claim and asdict(claim))
        except Exception:  # Ray's plain one, where the driver that had the actor has just ended
            self.register = None
            return None
