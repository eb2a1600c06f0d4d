"""Files of a place that are written and deleted behind one's back, in threads: who asks for it does not wait.

What was asked for last of a file is what it will hold; what is out of date by the time that a thread is free is never
written.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from .place import Place

log = logging.getLogger("lfombench")

AT_ONCE = 16  # files that are written at once: a bucket takes some 70 ms for each, whatever its size


@dataclass(frozen=True)
class _Wish:
    """What is to become of a file."""

    content: Callable[[], bytes] | None  # None: delete it
    instead_of: set[str] = field(default_factory=set)  # files that go once this one is there


class Behind:
    """Writes and deletes files of a place; it warns of what cannot be written, and goes on."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.asked: dict[str, _Wish] = {}  # by name, what no thread has begun
        self.busy: set[str] = set()  # names that a thread is at work on
        self.changed = threading.Condition()
        self.pool = ThreadPoolExecutor(AT_ONCE, "behind")

    def put(self, name: str, content: Callable[[], bytes], instead_of: Collection[str] = ()) -> None:
        """Write a file soon, or replace it; delete others once it is there. content: what it is to hold, which is made
        when it is written.
        """
        self._ask(name, _Wish(content, {*instead_of}))

    def delete(self, name: str) -> None:
        """Delete a file soon, if it is there."""
        self._ask(name, _Wish(None))

    def read(self, name: str) -> bytes | None:
        """What a file holds once all that was asked is done; None where there is none."""
        with self.changed:
            self.changed.wait_for(lambda: name not in self.asked and name not in self.busy)
        return self.place.read(name)

    def flush(self) -> None:
        """Wait until all that was asked is done."""
        with self.changed:
            self.changed.wait_for(lambda: not self.asked and not self.busy)

    def _ask(self, name: str, wish: _Wish) -> None:
        with self.changed:
            known = name in self.asked or name in self.busy
            if name in self.asked:
                wish.instead_of.update(self.asked[name].instead_of)
            self.asked[name] = wish
        if not known:
            self.pool.submit(self._work, name)

    def _work(self, name: str) -> None:
        """Do what is asked of a file, until nothing is."""
        while True:
            with self.changed:
                self.busy.discard(name)
                self.changed.notify_all()
                if name not in self.asked:
                    return
                wish = self.asked.pop(name)
                self.busy.add(name)
            try:
                if wish.content is None:
                    self.place.delete(name)
                else:
                    self.place.put(name, wish.content())
            except Exception as error:  # a full disk, a bucket that is gone: what is asked next may work
                log.warning("%s cannot be %s: %s", name, "deleted" if wish.content is None else "written", error)
            else:
                for other in wish.instead_of:
                    self.delete(other)
