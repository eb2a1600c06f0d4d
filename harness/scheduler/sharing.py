"""Several drivers on one store: which jobs belong to which of them.

A job that several sweeps want belongs to the driver whose number, hashed with the job's id, is largest (rendezvous
hashing: when one comes or goes, the others keep what they have). A driver that joins begins when all others know of it
and have announced what they are running; that stays theirs.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence

from ..awake import Awake
from ..store.lease import Lease
from ..store.manifest import jobs_of
from ..store.store import Store
from ..training.pack import Pack


class Shares:
    """This driver's share among the drivers that are alive."""

    def __init__(self, lease: Lease, store: Store) -> None:
        self.lease, self.store = lease, store
        self.wanted: dict[int, set[str]] = {}  # the jobs of each other driver's sweep, by its number
        self.shared = False  # whether there has been another driver
        self.heard: tuple[object, set[str]] = None, set()  # what the others said last, and what runs there
        self.failed: set[str] = set()  # jobs that failed with any driver: else each would wait for the other's try
        self.update()

    def update(self) -> bool:
        """Note which drivers came and went; whether any did."""
        others = self.lease.others
        self.failed |= self.lease.failures
        if others.keys() == self.wanted.keys():
            return False
        self.wanted = {
            number: self.wanted.get(number) or jobs_of(self.store.place, driver.sweep)
            for number, driver in others.items()
        }
        self.shared = True
        return True

    def acknowledge(self) -> None:
        """Tell the drivers that were noted that this one leaves them their share: they may rely on it."""
        known = sorted(self.wanted)
        if known != self.lease.announced.get("knows", []):
            self.lease.announce(knows=known)
            self.lease.hurry()

    def announce(self, packs: Sequence[Pack]) -> None:
        """Tell other drivers, where there are any, which jobs run here and which have failed."""
        running = [job.id for pack in packs for job in pack.jobs] if self.wanted else []
        self.lease.announce(running=running, failed=sorted(self.failed) if self.wanted else [])

    def owns(self, job: str) -> bool:
        """Whether a job belongs to this driver."""
        if not self.wanted:
            return True
        rivals = [number for number, jobs in self.wanted.items() if job in jobs]
        weight = _weight(self.lease.driver.number, job)
        return all(weight > _weight(number, job) for number in rivals) and job not in self.elsewhere()

    def elsewhere(self) -> set[str]:
        """The jobs that other drivers are running."""
        others = self.lease.others
        if self.heard[0] is not others:  # which each beat makes anew
            self.heard = others, {job for driver in others.values() for job in driver.running}
        return self.heard[1]

    def enter(self, stop: Callable[[], bool], tell: Callable[[str], None]) -> None:
        """Wait until all others know of this driver. tell: what the wait is for, once."""
        told = False
        while not stop():
            self.update()
            self.acknowledge()  # those that join at the same time wait for this one
            unaware = [d for d in self.lease.others.values() if self.lease.driver.number not in d.knows]
            if not unaware:
                break
            if not told:
                tell(f"joining {unaware[0].name}")
                told = True
            time.sleep(self.lease.pace.beat / 4)
            self.lease.hurry()

    def leave(self, stop: Callable[[], bool]) -> None:
        """Wait until all others have heard which jobs failed, or they would try them again; not for ever, as for one
        that is suspended.
        """
        waited = Awake(self.lease.pace.beat)
        while self.failed and not stop() and waited() < self.lease.pace.patience:
            self.update()
            self.announce([])
            self.acknowledge()  # one that joins now waits for it
            if all(self.failed.issubset(driver.failed) for driver in self.lease.others.values()):
                break
            self.lease.hurry()
            time.sleep(self.lease.pace.beat / 4)


def _weight(number: int, job: str) -> bytes:
    return hashlib.blake2b(f"{number} {job}".encode(), digest_size=8).digest()
