"""Signals that stop a command: the first lets it end in order, the second ends it at once."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from typing import Any

_listening: list[signal.Signals] = []  # signals that have our handlers


def listen(*signals: signal.Signals) -> None:
    """Let these signals end the command as Ctrl-C does: by a KeyboardInterrupt."""
    _listening[:] = signals
    for signum in signals:
        signal.signal(signum, _interrupt)


def ignore_signals() -> None:
    """Ignore them from now on: the command has ended, and a signal would make Python crash while it exits."""
    for signum in _listening:
        signal.signal(signum, signal.SIG_IGN)


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Restore the signal handlers after code that sets its own, as Ray does. A SystemExit that such a handler raises
    becomes a KeyboardInterrupt.
    """
    before = {signum: signal.getsignal(signum) for signum in _listening}
    try:
        yield
    except SystemExit:
        if before:
            raise KeyboardInterrupt from None
        raise
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


class Draining:
    """Turns the first signal into a request to stop, and lets the second one interrupt. Call it to ask for a request.

    message: printed at the first signal.
    """

    def __init__(self, message: str) -> None:
        self.message, self.count = message, 0
        for signum in _listening:
            signal.signal(signum, self._note)

    def __call__(self) -> bool:
        """Whether to stop. Raises a KeyboardInterrupt again that was lost, as Python drops those in its callbacks."""
        if self.count > 1:
            raise KeyboardInterrupt
        return self.count > 0

    def _note(self, signum: int, frame: Any) -> None:
        self.count += 1
        if self.count > 1:
            raise KeyboardInterrupt
        print(self.message, file=sys.stderr, flush=True)

    def over(self) -> None:
        """Let the first signal interrupt again."""
        listen(*_listening)


def _interrupt(signum: int, frame: Any) -> None:
    raise KeyboardInterrupt
