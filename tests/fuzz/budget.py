"""How many examples the fuzz tests try, and for how long one of them may compute.

LFOMBENCH_FUZZ=20 makes twenty times as many as a normal run of the tests does.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from hypothesis import HealthCheck, Phase, settings

FACTOR = float(os.environ.get("LFOMBENCH_FUZZ", "1"))


class TooLong(BaseException):
    """Raised where a call computes for too long. No `except Exception` on the way can hide it."""


def examples(count: int, shrink: bool = True) -> Callable[[Any], Any]:
    """Settings for a test with so many examples, times the factor. shrink: look for a smaller example that fails."""
    return settings(
        max_examples=max(1, round(count * FACTOR)),
        deadline=None,
        database=None,
        derandomize=False,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate, *([Phase.shrink] if shrink else [])],
    )


@contextlib.contextmanager
def seconds(limit: float) -> Iterator[None]:
    """Raise TooLong once this process has computed for so long; waiting does not count, as other tests have the cores
    too. The timer is not the one that pytest-timeout uses.
    """

    def end(signum: int, frame: FrameType | None) -> None:
        raise TooLong(f"more than {limit:g} s of computing")

    before = signal.signal(signal.SIGVTALRM, end)
    signal.setitimer(signal.ITIMER_VIRTUAL, limit, 1.0)  # again, as an exception in a finaliser would be lost
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
