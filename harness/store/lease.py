"""Leases: which drivers work on a store. Each driver keeps a file there and rewrites it regularly, as a heartbeat.

    drivers/00000007.json   {"host": "node1", "pid": 4711, "sweep": "fig1", "beat": 12, "progress": {...}, ...}

Clocks of different machines are never compared. A lease only saves work and makes drivers known to each other: that no
job is committed twice is ensured by the ledger.
"""

from __future__ import annotations

import contextlib
import functools
import os
import random
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from ..awake import Awake
from ..errors import UserError
from . import drivers as files
from .drivers import PACE, Driver, Pace, Report, alive, content_of, drivers, ended, file_of, strangers, watched
from .place import Place


class Held(UserError):
    """Another driver works on the store already."""


class Lease:
    """A driver's lease on a store. A thread of its own writes its beats and reads those of other drivers."""

    def __init__(self, place: Place, driver: Driver, progress: Callable[[], Report], pace: Pace = PACE) -> None:
        self.place, self.driver, self.progress, self.pace = place, driver, progress, pace
        self.lost = False
        self.others: dict[int, Driver] = {}  # other drivers that are alive, by number
        self.failures: frozenset[str] = frozenset()  # jobs that failed with any other driver since this one began
        self.clock = Awake(pace.beat)
        self.heard: dict[int | str, tuple[int | bytes, float]] = {}  # last beat of each other driver, or content of a
        # file that is no lease, and when it was first seen
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
            self.place.delete(file_of(self.driver.number))

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
                if self.place.read(file_of(self.driver.number)) is None:
                    self.lost = True  # another driver took this one for dead
                    return
                self.listen()
                own = replace(self.driver, beat=beat, progress=self.progress(), **self.announced)
                self.driver = replace(own, failed=sorted(self.failures.union(own.failed)))  # heard, however busy it is
                self.place.put(file_of(self.driver.number), content_of(self.driver))

    def listen(self) -> None:
        """Note which other drivers are alive, and delete the files of those that are not."""
        alive = {}
        for other in drivers(self.place):
            if other.number == self.driver.number:
                continue
            silent = self._silent(other.number, other.beat)
            is_over = ended(other)
            if silent < self.pace.patience if is_over is None else not is_over:
                alive[other.number] = other
            else:
                self.place.delete(file_of(other.number))
        for name, content in strangers(self.place).items():
            if self._silent(name, content) >= self.pace.patience:
                self.place.delete(name)
        self.failures = self.failures.union(*(other.failed for other in alive.values()))
        self.others = alive

    def _silent(self, key: int | str, beat: int | bytes) -> float:
        """For how many seconds a driver has had this beat, as far as this one has seen."""
        now = self.clock()
        last, since = self.heard.get(key, (None, now))
        if last != beat:
            since = now
            self.heard[key] = beat, now
        return now - since


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
            place.delete(file_of(other.number))
        for name, content in strangers(place).items():
            if watched(functools.partial(place.read, name), content, f"{place.root}/{name}", tell, pace):
                raise Held(
                    f"{place.root} is in use by another version of lfombench: {name} changes. Wait for it to end"
                )
            place.delete(name)
        number = max((other.number for other in others), default=0) + 1
        since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        pid = os.getpid()
        began = files.began(pid) or ""
        driver = Driver(number, socket.gethostname(), files.this_machine(), pid, began, sweep, since, 0, progress())
        if place.create(file_of(number), content_of(driver)):
            place.refresh()
            if join or all(other.number == number for other in drivers(place)):
                return Lease(place, driver, progress, pace)
            place.delete(file_of(number))  # another one has just come, or a disk that is shared had not shown it
        time.sleep(random.uniform(0.1, 0.5))
