"""Signals that stop a command."""

from __future__ import annotations

import signal
import sys
from typing import Any

_asked: list[int] = []


def listen(*signals: signal.Signals) -> None:
    """Let these signals end the command the way Ctrl-C does."""
    for one in signals:
        signal.signal(one, _interrupt)
    told = sys.unraisablehook

    def hook(dropped: Any) -> None:
        if dropped.exc_type is not KeyboardInterrupt:
            told(dropped)

    sys.unraisablehook = hook


def interrupted() -> None:
    """Raise again what was asked for: Python drops an exception that a signal raises inside a callback of its own, and
    would print a traceback.
    """
    if _asked:
        raise KeyboardInterrupt


def _interrupt(signum: int, frame: Any) -> None:
    _asked.append(signum)
    raise KeyboardInterrupt
