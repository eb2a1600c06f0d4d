"""Format numbers for people."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """A duration in words: `45 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def remaining(seconds: float | None) -> str:
    """The time left in words. None: what was planned is over, and nothing says yet how long it takes."""
    return "longer than planned" if seconds is None else f"{duration(seconds)} left"


def counted(number: int, noun: str) -> str:
    """A number with its noun: `1 pack`, `2 packs`."""
    return f"{number} {noun}{'s' * (number != 1)}"
