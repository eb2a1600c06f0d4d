"""Signals that stop a command: the first lets it end in order, the second ends it at once."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

_listening: list[signal.Signals] = []  # signals that have our handlers


def listen(*signals: signal.Signals) -> None:
    """Let these signals, and that of a terminal that is closed, end the command as Ctrl-C does: by a KeyboardInterrupt.
    Not the latter under nohup, where it is ignored.
    """
    _listening[:] = signals
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        _listening.append(signal.SIGHUP)
    for signum in _listening:
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
        _mute(signum)
        if self.count > 1:
            raise KeyboardInterrupt
        print(self.message, file=sys.stderr, flush=True)

    def over(self) -> None:
        """Let the first signal interrupt again."""
        for signum in _listening:
            signal.signal(signum, _interrupt)


def _interrupt(signum: int, frame: Any) -> None:
    _mute(signum)
    raise KeyboardInterrupt


def _mute(signum: int) -> None:
    """Where the terminal was closed, write to it no more, which fails: what is printed from now on goes nowhere."""
    if signum != signal.SIGHUP:
        return
    nowhere = os.open(os.devnull, os.O_RDWR)
    for handle in (1, 2):
        try:
            os.ttyname(handle)
        except OSError as error:
            if error.errno == errno.ENOTTY:  # a file or a pipe
                continue
        os.dup2(nowhere, handle)
    os.close(nowhere)
