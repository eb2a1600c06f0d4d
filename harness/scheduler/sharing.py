"""Several drivers on one store: which jobs are whose.

A job that several sweeps want belongs to the driver whose number, hashed with the job's id, is largest (rendezvous
hashing: when one comes or goes, the others keep what they have). A driver that joins begins when all others know of it
and have said what they are running; that stays theirs.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence

from ..store.lease import BEAT, Lease
from ..store.store import Store
from ..training.pack import Pack


class Shares:
    """This driver's share among those that are alive."""

    def __init__(self, lease: Lease, store: Store) -> None:
        self.lease, self.store = lease, store
        self.wanted: dict[int, set[str]] = {}  # by the number of each other driver
        self.ever = False  # whether there was another
        self.failed: set[str] = set()  # jobs that somebody tried in vain: else each would wait for the other's
        self.update()

    def update(self) -> bool:
        """Take note of who came and who went; whether anybody did."""
        others = self.lease.others
        self.failed.update(*(driver.failed for driver in others.values()))
        if others.keys() == self.wanted.keys():
            return False
        self.wanted = {
            number: self.wanted.get(number) or self.store.wanted_by(driver.sweep) for number, driver in others.items()
        }
        self.ever = True
        return True

    def settled(self) -> None:
        """What was taken note of counts from now on: the others may rely on it."""
        self.lease.knows = sorted(self.wanted)

    def running(self, packs: Sequence[Pack]) -> None:
        """Tell what is on workers, and what has failed, where somebody may ask."""
        self.lease.running = [job.id for pack in packs for job in pack.jobs] if self.wanted else []
        self.lease.failed = sorted(self.failed) if self.wanted else []

    def mine(self, job: str) -> bool:
        """Whether a job is this driver's."""
        if not self.wanted:
            return True
        rivals = [number for number, jobs in self.wanted.items() if job in jobs]
        own = _weight(self.lease.driver.number, job)
        return all(own > _weight(number, job) for number in rivals) and job not in self.elsewhere()

    def elsewhere(self) -> set[str]:
        """Jobs that other drivers are running."""
        return {job for driver in self.lease.others.values() for job in driver.running}

    def enter(self, stop: Callable[[], bool], told: Callable[[str], None]) -> None:
        """Wait until all others know of this driver."""
        said = False
        while not stop():
            self.update()
            waiting = [d for d in self.lease.others.values() if self.lease.driver.number not in d.knows]
            if not waiting:
                break
            if not said:
                told(f"joining {waiting[0].name}")
                said = True
            time.sleep(BEAT / 4)
        self.settled()


def _weight(number: int, job: str) -> bytes:
    return hashlib.blake2b(f"{number} {job}".encode(), digest_size=8).digest()
