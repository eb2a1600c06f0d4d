"""Errors for the user: they say what was given, where, what is allowed, and the nearest allowed word."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from .redact import redacted


class UserError(Exception):
    """An error that the user can correct. It is shown without a traceback; `exit_code` as in `lfombench --help`."""

    exit_code = 1

    def __str__(self) -> str:
        return redacted(super().__str__())


class SpecError(UserError):
    """An invalid sweep, name or option."""

    exit_code = 2


def nearest(word: str, allowed: Iterable[str]) -> str:
    """A clause for a message: what is allowed and, if one is near, the allowed word nearest to `word`."""
    allowed = sorted(allowed)
    close = get_close_matches(word, allowed, n=1, cutoff=0.5) or [one for one in allowed if word and word in one]
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"allowed: {', '.join(allowed) or 'nothing'}{hint}"
