"""Errors for the user: what was given, where, what is allowed, and the nearest right word."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """Something the user can put right. Shown without a traceback; `exit_code` as in `lfombench --help`."""

    exit_code = 1


class SpecError(UserError):
    """A sweep, a name or an option that cannot be meant so."""

    exit_code = 2


def nearest(word: str, allowed: Iterable[str]) -> str:
    """A clause that names what is allowed and, if there is one, the nearest right word."""
    allowed = sorted(allowed)
    close = get_close_matches(word, allowed, n=1, cutoff=0.5)
    meant = f"; did you mean {close[0]!r}?" if close else ""
    return f"allowed: {', '.join(allowed) or 'nothing'}{meant}"
