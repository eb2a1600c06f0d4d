"""Commands in a terminal of their own, of any width, that can be closed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self


class Terminal:
    """A terminal in which a command runs."""

    def __init__(self, command: Sequence[str], *, columns: int = 100, **environment: str) -> None:
        self.ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

        def own() -> None:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # so that closing it hangs up on the command
            signal.signal(signal.SIGHUP, signal.SIG_DFL)  # also where the tests themselves run under nohup

        variables: dict[str, str] = os.environ | {"TERM": "xterm-256color", "COLUMNS": ""} | environment
        del variables["COLUMNS"]  # which would be believed instead of the terminal
        options: dict[str, Any] = {"stdin": theirs, "stdout": theirs, "stderr": theirs, "env": variables}
        self.process = subprocess.Popen(command, start_new_session=True, preexec_fn=own, **options)
        os.close(theirs)
        self.shown = b""
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while piece := os.read(self.ours, 4096):
                self.shown += piece

    @property
    def text(self) -> str:
        """What was written to it so far."""
        return self.shown.decode(errors="replace")

    def close(self) -> None:
        """As when its window is closed. Once only: its number may be another file's soon."""
        ours, self.ours = self.ours, -1
        if ours >= 0:
            os.close(ours)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
        self.process.kill()
        self.process.wait()
