"""Signals that stop a command: the first lets it end in order, the second at once."""

from __future__ import annotations

import signal
import sys
from typing import Any

_listening: list[signal.Signals] = []


def listen(*signals: signal.Signals) -> None:
    """Let these signals end the command the way Ctrl-C does."""
    _listening[:] = signals
    for one in signals:
        signal.signal(one, _interrupt)


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
