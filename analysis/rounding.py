"""Bounds in words: rounded so that what they say stays true."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

DIGITS = 2  # that are shown; of 1 and more, one after the point


def at_least(bound: float) -> str:
    """A lower bound, rounded down."""
    return _rounded(bound, ROUND_FLOOR)


def at_most(bound: float) -> str:
    """An upper bound, rounded up."""
    return _rounded(bound, ROUND_CEILING)


def _rounded(bound: float, way: str) -> str:
    exact = Decimal(bound)
    place = max(exact.adjusted() - DIGITS + 1, -12) if abs(exact) < 1 else -1
    return f"{float(exact.quantize(Decimal(1).scaleb(place), way)):g}"
