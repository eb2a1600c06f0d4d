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

Report = dict[str, Any]  # how far a run is, as `lfombench status` shows it


@dataclass(frozen=True)
class Pace:
    """How often drivers beat, and for how many seconds without a beat one on another machine counts as alive."""

    beat: float = 2.0
    patience: float = 15.0


PACE = Pace()


@dataclass(frozen=True)
class Driver:
    """A driver that works on a store, or did."""

    number: int
    host: str
    machine: str  # this boot of it, and the processes it sees
    pid: int
    started: str  # of the process: its number may be given away again
    sweep: str
    since: str
    beat: int
    progress: Report
    knows: list[int] = field(default_factory=list)  # the numbers of others that it leaves their share
    running: list[str] = field(default_factory=list)  # jobs, where there are others
    failed: list[str] = field(default_factory=list)  # likewise: nobody need try these again

    @property
    def name(self) -> str:
        """The driver in words, for messages."""
        return f"sweep {self.sweep} on {self.host}, process {self.pid}, since {self.since}"


class Held(UserError):
    """Another driver works on the store."""


class Lease:
    """A driver's place on a store; beats, and listens to others, in a thread of its own."""

    def __init__(self, place: Place, driver: Driver, progress: Callable[[], Report], pace: Pace = PACE) -> None:
        self.place, self.driver, self.progress, self.pace = place, driver, progress, pace
        self.lost = False
        self.others: dict[int, Driver] = {}  # that are alive
        self.heard: dict[int, tuple[int, float]] = {}  # the last beat of each, and when it was new
        self.announced: dict[str, Any] = {}  # fields of the driver that its next beat changes
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._beat, name="lease", daemon=True)

    def __enter__(self) -> Lease:
        self.listen()
        self.thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.over.set()
        self.thread.join()
        with contextlib.suppress(OSError):
            self.place.delete(_name(self.driver.number))

    def announce(self, **fields: list[Any]) -> None:
        """Tell the other drivers with the next beat: which of them this one `knows`, jobs that are `running` here, jobs
        that `failed`.
        """
        self.announced = self.announced | fields

    def _beat(self) -> None:
        beat = self.driver.beat
        while not self.over.wait(self.pace.beat):
            beat += 1
            with contextlib.suppress(OSError):  # a full disk stops commits, not this
                if self.place.read(_name(self.driver.number)) is None:
                    self.lost = True  # another took us for dead
                    return
                self.driver = replace(self.driver, beat=beat, progress=self.progress(), **self.announced)
                self.place.put(_name(self.driver.number), _content(self.driver))
                self.listen()

    def listen(self) -> None:
        """Note which other drivers are alive, and remove the files of those that are not."""
        alive, now = {}, time.monotonic()
        for other in drivers(self.place):
            if other.number == self.driver.number:
                continue
            beat, since = self.heard.get(other.number, (-1, now))
            if other.beat != beat:
                since = now
                self.heard[other.number] = other.beat, now
            here = other.machine == self.driver.machine
            if _started(other.pid) == other.started if here else now - since < self.pace.patience:
                alive[other.number] = other
            else:
                self.place.delete(_name(other.number))
        self.others = alive


def take(
    place: Place,
    sweep: str,
    progress: Callable[[], Report] = dict,
    tell: Callable[[str], None] = print,
    *,
    join: bool = False,
    pace: Pace = PACE,
) -> Lease:
    """A lease on a store that no living driver holds, else `Held`; or beside those that do.

    tell: what takes time, for the user.
    """
    while True:
        others = drivers(place)
        for other in others:
            if join:
                continue
            if alive(place, other, tell, pace):
                raise Held(f"{place.root} is in use: {other.name}. Wait for it to end; or --join, to work beside it")
            place.delete(_name(other.number))
        number = max((other.number for other in others), default=0) + 1
        since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        pid = os.getpid()
        driver = Driver(number, socket.gethostname(), _machine(), pid, _started(pid), sweep, since, 0, progress())
        if place.create(_name(number), _content(driver)):
            return Lease(place, driver, progress, pace)


def drivers(place: Place) -> list[Driver]:
    """The drivers that have a file, alive or not."""
    drivers = []
    for name in place.names(FOLDER):
        with contextlib.suppress(ValueError, TypeError, KeyError):
            number = int(name.removesuffix(".json"))
            drivers.append(Driver(number=number, **json.loads(place.read(f"{FOLDER}/{name}") or b"null")))
    return drivers


def alive(place: Place, driver: Driver, tell: Callable[[str], None] = lambda text: None, pace: Pace = PACE) -> bool:
    """Whether a driver still works; takes its patience where it is on another machine and dead."""
    if driver.machine == _machine():
        return _started(driver.pid) == driver.started
    begin, told = time.monotonic(), False
    while time.monotonic() - begin < pace.patience:
        now = {other.number: other for other in drivers(place)}.get(driver.number)
        if now is None:
            return False
        if now.beat != driver.beat:
            return True
        if not told and time.monotonic() - begin > 2 * pace.beat:
            tell(f"watching whether another driver is alive: {driver.name}")
            told = True
        time.sleep(pace.beat / 4)
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
    """When a process began, in ticks since the machine did; empty where it has ended, a zombie too."""
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
