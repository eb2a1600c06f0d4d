"""Leases: which drivers work on a store. Each driver keeps a file there and rewrites it regularly, as a heartbeat.

    drivers/00000007.json   {"host": "node1", "pid": 4711, "sweep": "fig1", "beat": 12, "progress": {...}, ...}

A driver on this machine is alive if its process is; one on another machine if its beat changes while it is watched.
Clocks of different machines are never compared. A lease only saves work and makes drivers known to each other: that no
job is committed twice is ensured by the ledger.
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
    """Seconds between two beats, and seconds for which a driver on another machine counts as alive without a beat."""

    beat: float = 2.0
    patience: float = 15.0


PACE = Pace()


@dataclass(frozen=True)
class Driver:
    """A driver that works on a store, or has worked on it."""

    number: int
    host: str
    machine: str  # identifies its boot of the host and the processes it sees
    pid: int
    started: str  # when its process began, as process numbers are reused
    sweep: str
    since: str
    beat: int
    progress: Report
    knows: list[int] = field(default_factory=list)  # other drivers that it leaves their share of the jobs
    running: list[str] = field(default_factory=list)  # jobs that it runs, where there are other drivers
    failed: list[str] = field(default_factory=list)  # jobs that other drivers need not try again

    @property
    def name(self) -> str:
        """The driver's sweep, host, process and start in words, for messages."""
        return f"sweep {self.sweep} on {self.host}, process {self.pid}, since {self.since}"


class Held(UserError):
    """Another driver works on the store already."""


class Lease:
    """A driver's lease on a store. A thread of its own writes its beats and reads those of other drivers."""

    def __init__(self, place: Place, driver: Driver, progress: Callable[[], Report], pace: Pace = PACE) -> None:
        self.place, self.driver, self.progress, self.pace = place, driver, progress, pace
        self.lost = False
        self.others: dict[int, Driver] = {}  # other drivers that are alive, by number
        self.heard: dict[int, tuple[int, float]] = {}  # last beat of each other driver, and when it was first seen
        self.announced: dict[str, Any] = {}  # fields of the driver that its next beat publishes
        self.over, self.soon = False, threading.Event()
        self.thread = threading.Thread(target=self._beat, name="lease", daemon=True)

    def __enter__(self) -> Lease:
        self.listen()
        self.thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.over = True
        self.soon.set()
        self.thread.join()
        with contextlib.suppress(OSError):
            self.place.delete(_name(self.driver.number))

    def announce(self, **fields: list[Any]) -> None:
        """Tell the other drivers with the next beat: which of them this one `knows`, which jobs are `running` here, and
        which `failed`.
        """
        self.announced = self.announced | fields

    def hurry(self) -> None:
        """Beat now: publish what was announced, and hear what others have to say."""
        self.soon.set()

    def _beat(self) -> None:
        """Write a beat and read those of others, again and again until the lease ends or its file is gone."""
        beat = self.driver.beat
        while True:
            self.soon.wait(self.pace.beat)
            self.soon.clear()
            if self.over:
                return
            beat += 1
            with contextlib.suppress(OSError):  # a full disk stops commits, but must not stop the beats
                if self.place.read(_name(self.driver.number)) is None:
                    self.lost = True  # another driver took this one for dead
                    return
                self.driver = replace(self.driver, beat=beat, progress=self.progress(), **self.announced)
                self.place.put(_name(self.driver.number), _content(self.driver))
                self.listen()

    def listen(self) -> None:
        """Note which other drivers are alive, and delete the files of those that are not."""
        alive, now = {}, time.monotonic()
        for other in drivers(self.place):
            if other.number == self.driver.number:
                continue
            beat, since = self.heard.get(other.number, (-1, now))
            if other.beat != beat:
                since = now
                self.heard[other.number] = other.beat, now
            is_local = other.machine == self.driver.machine
            if _started(other.pid) == other.started if is_local else now - since < self.pace.patience:
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
    """Take a lease on a store; `Held` where a living driver has one, unless this one is to `join` it.

    tell: shows the user a message about what takes time.
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
    """All drivers that have a file on the store, alive or not."""
    drivers = []
    for name in place.names(FOLDER):
        with contextlib.suppress(ValueError, TypeError, KeyError):
            number = int(name.removesuffix(".json"))
            drivers.append(Driver(number=number, **json.loads(place.read(f"{FOLDER}/{name}") or b"null")))
    return drivers


def alive(place: Place, driver: Driver, tell: Callable[[str], None] = lambda text: None, pace: Pace = PACE) -> bool:
    """Whether a driver still works. It takes `pace.patience` seconds to find one on another machine dead."""
    if driver.machine == _machine():
        return _started(driver.pid) == driver.started
    begin, has_told = time.monotonic(), False
    while time.monotonic() - begin < pace.patience:
        latest = {other.number: other for other in drivers(place)}.get(driver.number)
        if latest is None:
            return False
        if latest.beat != driver.beat:
            return True
        if not has_told and time.monotonic() - begin > 2 * pace.beat:
            tell(f"watching whether another driver is alive: {driver.name}")
            has_told = True
        time.sleep(pace.beat / 4)
    return False


def _name(number: int) -> str:
    return f"{FOLDER}/{number:08d}.json"


def _content(driver: Driver) -> bytes:
    return json.dumps({name: value for name, value in vars(driver).items() if name != "number"}, indent=1).encode()


def _machine() -> str:
    """Identifies this boot of this machine and the processes seen from here: where process numbers are comparable."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts += [Path("/proc/sys/kernel/random/boot_id").read_text().strip(), os.readlink("/proc/self/ns/pid")]
    return " ".join(parts)


def _started(pid: int) -> str:
    """When a process began, in clock ticks since the machine's boot; empty where it has ended or is a zombie.

    Without /proc: "running" for any process that exists.
    """
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
