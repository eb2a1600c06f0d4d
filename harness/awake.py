"""Time as a process sees it pass, for how long others may be silent."""

from __future__ import annotations

import time


class Awake:
    """The seconds since it was made, of which those in which nobody asked for them count as `gap` at most. While this
    process was stopped or its machine asleep, those it waits for were likely not awake either, and it did not listen.
    """

    def __init__(self, gap: float) -> None:
        self.gap = gap
        self.seconds, self.asked = 0.0, time.monotonic()

    def __call__(self) -> float:
        """The seconds so far."""
        now = time.monotonic()
        self.seconds += min(now - self.asked, self.gap)
        self.asked = now
        return self.seconds
