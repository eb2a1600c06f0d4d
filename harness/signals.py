"""Signals that stop a command: the first lets it end in order, the second at once."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from typing import Any

_listening: list[signal.Signals] = []


def listen(*signals: signal.Signals) -> None:
    """Let these signals end the command the way Ctrl-C does."""
    _listening[:] = signals
    for one in signals:
        signal.signal(one, _interrupt)


def deaf() -> None:
    """From now on they do nothing: the command has ended, and Python would die of one on its way out."""
    for one in _listening:
        signal.signal(one, signal.SIG_IGN)


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Around what sets handlers of its own, as Ray does: they are put back, and what one ends is interrupted."""
    before = {one: signal.getsignal(one) for one in _listening}
    try:
        yield
    except SystemExit:
        if before:
            raise KeyboardInterrupt from None
        raise
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


class Draining:
    """While it listens, a signal is only noted: asked, it says whether to stop. A second one interrupts."""

    def __init__(self, says: str) -> None:
        self.says, self.asked = says, 0
        for one in _listening:
            signal.signal(one, self._note)

    def __call__(self) -> bool:
        """Whether to stop. An interrupt that Python dropped, raised in a callback of its own, is raised again."""
        if self.asked > 1:
            raise KeyboardInterrupt
        return self.asked > 0

    def _note(self, signum: int, frame: Any) -> None:
        self.asked += 1
        if self.asked > 1:
            raise KeyboardInterrupt
        print(self.says, file=sys.stderr, flush=True)

    def over(self) -> None:
        """Signals interrupt again."""
        listen(*_listening)


def _interrupt(signum: int, frame: Any) -> None:
    raise KeyboardInterrupt
