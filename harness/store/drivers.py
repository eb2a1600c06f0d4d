"""The drivers that work on a store, or have worked on it: their files there, and whether they are alive.

Death is only concluded from what proves it. A process that this machine and this user can see is alive or not; of any
other, on another machine, in another container, hidden from this user, only its beats tell, while they are watched.
"""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..awake import Awake
from .place import Place

FOLDER = "drivers"
FILE = re.compile(r"\d+\.json")
BLOCK = 4096  # bytes of which a driver's file has one or more

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
    machine: str  # identifies its boot of the host and the processes it sees; empty where nothing does
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


KINDS: dict[type, tuple[str, ...]] = {  # of the fields of a lease
    int: ("pid", "beat"),
    str: ("host", "machine", "started", "sweep", "since"),
    dict: ("progress",),
    list: ("knows", "running", "failed"),
}


def drivers(place: Place) -> list[Driver]:
    """All drivers that have a file on the store, alive or not."""
    found = (_driver(name, place.read(name)) for name in _names(place))
    return [driver for driver in found if driver]


def strangers(place: Place) -> dict[str, bytes]:
    """The files among the leases that are none, and what they hold: cut off, or of another version."""
    contents = {name: place.read(name) for name in _names(place)}
    return {name: x for name, x in contents.items() if x is not None and _driver(name, x) is None}


def alive(place: Place, driver: Driver, tell: Callable[[str], None] = lambda text: None, pace: Pace = PACE) -> bool:
    """Whether a driver still works. It takes `pace.patience` seconds to find one dead whose process cannot be seen."""
    is_over = ended(driver)
    if is_over is not None:
        return not is_over

    def beat() -> int | None:
        latest = {other.number: other for other in drivers(place)}.get(driver.number)
        return latest.beat if latest else None

    return watched(beat, driver.beat, driver.name, tell, pace)


def watched(look: Callable[[], object], before: object, name: str, tell: Callable[[str], None], pace: Pace) -> bool:
    """Whether something changes while it is watched; not where it goes."""
    clock, has_told = Awake(pace.beat), False
    while clock() < pace.patience:
        now = look()
        if now is None:
            return False
        if now != before:
            return True
        if not has_told and clock() > 2 * pace.beat:
            tell(f"watching whether another driver is alive: {name}")
            has_told = True
        time.sleep(pace.beat / 4)
    return False


def _names(place: Place) -> list[str]:
    """The names of the files that drivers may have made."""
    return [f"{FOLDER}/{name}" for name in place.names(FOLDER) if FILE.fullmatch(name)]


def _driver(name: str, content: bytes | None) -> Driver | None:
    """The driver that a file tells of; None where it tells of none."""
    try:
        values = json.loads(content or b"null")
        kinds = ((values[name], kind) for kind, names in KINDS.items() for name in names)
        sound = all(isinstance(value, kind) for value, kind in kinds)
        return Driver(number=int(Path(name).stem), **values) if sound else None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def ended(driver: Driver) -> bool | None:
    """Whether a driver's process has ended; None where that cannot be seen from here."""
    if not driver.machine or driver.machine != this_machine():
        return None
    try:
        os.kill(driver.pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # of another user, which lives
        pass
    begin = began(driver.pid)
    return None if begin is None else begin != driver.started


def file_of(number: int) -> str:
    """The name of a driver's file."""
    return f"{FOLDER}/{number:08d}.json"


def content_of(driver: Driver) -> bytes:
    """What a driver's file holds. All have the same size: a disk that several machines share may believe in the size of
    a while ago, and cut off the rest.
    """
    content = json.dumps({name: value for name, value in vars(driver).items() if name != "number"}, indent=1).encode()
    return content.ljust(-(-len(content) // BLOCK) * BLOCK)


def this_machine() -> str:
    """Identifies this boot of this machine and the processes seen from here: where process numbers are comparable.
    Empty where the system does not tell both.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def began(pid: int) -> str | None:
    """When a process began, in clock ticks since the machine's boot; empty where it is a zombie, None where nothing is
    to be seen of it: it has ended, or /proc hides it or is not there.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] == "Z" else fields[19]
    except (OSError, IndexError):
        return None
