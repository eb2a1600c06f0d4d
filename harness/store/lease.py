"""Who works on a store: each driver keeps a file there that beats.

    drivers/00000007.json   {"host": "node1", "pid": 4711, "sweep": "fig1", "beat": 12, "progress": {...}, ...}

A driver on this machine is alive if its process is; one elsewhere if its beat changes while we watch. No clock is
compared with another. A lease only spares work and says who is there: that no job is committed twice is the ledger's.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from ..errors import UserError
from .filesystem import Place

FOLDER = "drivers"
BEAT = 2.0  # seconds
PATIENCE = 15.0  # seconds without a beat until a driver on another machine counts as dead

Progress = dict[str, Any]


@dataclass(frozen=True)
class Driver:
    """One that works on a store, or did."""

    number: int
    host: str
    machine: str  # this boot of it, and the processes it sees
    pid: int
    started: str  # of the process: its number may be given away again
    sweep: str
    since: str
    beat: int
    progress: Progress
    knows: list[int] = field(default_factory=list)  # the numbers of others that it leaves their share
    running: list[str] = field(default_factory=list)  # jobs, where there are others
    failed: list[str] = field(default_factory=list)  # likewise: nobody need try these again

    @property
    def name(self) -> str:
        """As people are told."""
        return f"sweep {self.sweep} on {self.host}, process {self.pid}, since {self.since}"


class Held(UserError):
    """Another driver works on the store."""


class Lease:
    """A driver's place on a store; beats, and listens to others, in a thread of its own."""

    def __init__(self, place: Place, driver: Driver, progress: Callable[[], Progress]) -> None:
        self.place, self.driver, self.progress = place, driver, progress
        self.lost = False
        self.others: dict[int, Driver] = {}  # that are alive
        self.heard: dict[int, tuple[int, float]] = {}  # the last beat of each, and when it was new
        self.knows: list[int] = []
        self.running: list[str] = []
        self.failed: list[str] = []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._beat, name="lease", daemon=True)

    def __enter__(self) -> Lease:
        self._listen()
        self.thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.over.set()
        self.thread.join()
        with contextlib.suppress(OSError):
            self.place.delete(_name(self.driver.number))

    def _beat(self) -> None:
        beat = self.driver.beat
        while not self.over.wait(BEAT):
            beat += 1
            with contextlib.suppress(OSError):  # a full disk stops commits, not this
                if self.place.read(_name(self.driver.number)) is None:
                    self.lost = True  # another took us for dead
                    return
                self.driver = replace(
                    self.driver,
                    beat=beat,
                    progress=self.progress(),
                    knows=self.knows,
                    running=self.running,
                    failed=self.failed,
                )
                self.place.put(_name(self.driver.number), _content(self.driver))
                self._listen()

    def _listen(self) -> None:
        """Who else is alive; what the dead leave is removed."""
        found, now = {}, time.monotonic()
        for other in drivers(self.place):
            if other.number == self.driver.number:
                continue
            beat, since = self.heard.get(other.number, (-1, now))
            if other.beat != beat:
                since = now
                self.heard[other.number] = other.beat, now
            here = other.machine == self.driver.machine
            if _started(other.pid) == other.started if here else now - since < PATIENCE:
                found[other.number] = other
            else:
                self.place.delete(_name(other.number))
        self.others = found


def take(
    place: Place,
    sweep: str,
    progress: Callable[[], Progress] = dict,
    told: Callable[[str], None] = print,
    *,
    join: bool = False,
) -> Lease:
    """A lease on a store that no living driver holds, else `Held`; or beside those that do.

    told: what takes time, for the user.
    """
    while True:
        others = drivers(place)
        for other in others:
            if join:
                continue
            if alive(place, other, told):
                raise Held(f"{place.root} is in use: {other.name}. Wait for it to end; or --join, to work beside it")
            place.delete(_name(other.number))
        number = max((other.number for other in others), default=0) + 1
        since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        me = os.getpid()
        mine = Driver(number, socket.gethostname(), _machine(), me, _started(me), sweep, since, 0, progress())
        if place.create(_name(number), _content(mine)):
            return Lease(place, mine, progress)


def drivers(place: Place) -> list[Driver]:
    """Those with a file, alive or not."""
    found = []
    for name in place.names(FOLDER):
        with contextlib.suppress(ValueError, TypeError, KeyError):
            number = int(name.removesuffix(".json"))
            found.append(Driver(number=number, **json.loads(place.read(f"{FOLDER}/{name}") or b"null")))
    return found


def alive(place: Place, driver: Driver, told: Callable[[str], None] = lambda text: None) -> bool:
    """Whether it still works; takes PATIENCE where it is on another machine and dead."""
    if driver.machine == _machine():
        return _started(driver.pid) == driver.started
    begin, said = time.monotonic(), False
    while time.monotonic() - begin < PATIENCE:
        now = {other.number: other for other in drivers(place)}.get(driver.number)
        if now is None:
            return False
        if now.beat != driver.beat:
            return True
        if not said and time.monotonic() - begin > 2 * BEAT:
            told(f"watching whether another driver is alive: {driver.name}")
            said = True
        time.sleep(BEAT / 4)
    return False


def _name(number: int) -> str:
    return f"{FOLDER}/{number:08d}.json"


def _content(driver: Driver) -> bytes:
    return json.dumps({name: value for name, value in vars(driver).items() if name != "number"}, indent=1).encode()


def _machine() -> str:
    """This boot of this machine, and which processes can be seen from here: where process numbers mean something."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts += [Path("/proc/sys/kernel/random/boot_id").read_text().strip(), os.readlink("/proc/self/ns/pid")]
    return " ".join(parts)


def _started(pid: int) -> str:
    """When a process began, in ticks since the machine did; empty where there is none, or it is only not yet buried."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] == "Z" else fields[19]
    except OSError:
        if Path("/proc/self/stat").exists():
            return ""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except OSError:
        pass
    return "running"
