"""What people are shown: text without characters that steer a terminal.

A store may come from somebody else, and what it holds is printed: labels, reasons, names of files. An escape sequence
in them could rewrite what stands on the screen, or fill the clipboard. Such characters are shown as they would be
written in Python, and steer nothing.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from typing import Any

from ..redact import redacted

BOLD = r"\x1b\[[01]m"  # and back, which are our own
STEERING = re.compile(rf"{BOLD}|[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")  # the last turn text around


def plain(text: str) -> str:
    """A text whose characters that would steer a terminal are written out, and its passwords are not."""
    return redacted(STEERING.sub(lambda found: found[0] if len(found[0]) > 1 else ascii(found[0])[1:-1], text))


class Plain:
    """A stream that writes plain text."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write a text, plain."""
        return int(self.stream.write(plain(text)))

    def writelines(self, lines: Iterable[str]) -> None:
        """Write texts one after the other, each plain."""
        self.stream.writelines(map(plain, lines))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def make_plain() -> None:
    """Let all that this process prints be plain, from now on."""
    sys.stdout, sys.stderr = Plain(sys.stdout), Plain(sys.stderr)


def raw(stream: Any) -> Any:
    """The stream itself, under what makes it plain."""
    return stream.stream if isinstance(stream, Plain) else stream


def exact(text: str) -> None:
    """Write a text for another program as it is; for a terminal, plain."""
    stream = sys.stdout if sys.stdout.isatty() else raw(sys.stdout)
    stream.write(text)
    stream.flush()
