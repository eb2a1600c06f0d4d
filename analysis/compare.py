"""Two solvers of a store, or more, wherever both were run: who is better, by how much, how surely, at which depth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from .rounding import at_most
from .verdicts import Difference

MANY = 6  # places, above which they are counted instead of told one by one
FEW = 0.05  # nat; where a difference cannot be larger than this, it is said to be none


@dataclass(frozen=True)
class Meeting:
    """Two solvers on one test task, under one protocol, at one depth: the first minus the second.

    prompts: the part of the variance over seeds that finitely many test prompts explain; None where the store does not
    say, or all seeds share their prompts. means: their mean log errors over the seeds that both have an outcome for;
    None where all were lost.
    """

    task: str
    test: str
    protocol: str
    depth: int
    means: tuple[float | None, float | None]
    difference: Difference
    prompts: float | None
    shared: bool
    extended: bool = False  # whether seeds were added until something was decided

    @property
    def place(self) -> tuple[str, str, str]:
        """Where they meet, all depths together."""
        return self.task, self.test, self.protocol


@dataclass(frozen=True)
class Comparison:
    """Two solvers wherever they meet; Holm's correction is over all meetings."""

    first: str
    second: str
    meetings: Sequence[Meeting]

    @property
    def words(self) -> list[str]:
        """A sentence for each place at which they meet; where these are many, how many there are of each kind."""
        places = [(place, list(group)) for place, group in groupby(self.meetings, key=lambda meeting: meeting.place)]
        if len(places) <= MANY:
            return [f"{_place(place, places)}{sentence(self.first, self.second, group)}" for place, group in places]
        kinds = Counter(_kind(meeting.difference) for meeting in self.meetings)
        counts = "; ".join(f"{KINDS[kind]} at {kinds[kind]}" for kind in KINDS if kinds[kind])
        return [f"{self.first} against {self.second}, of {len(self.meetings)} depths and places: {counts}"]

    @property
    def extended(self) -> bool:
        """Whether any of it rests on e values and confidence sequences."""
        return any(meeting.extended for meeting in self.meetings)

    def __str__(self) -> str:
        return "\n".join([*self.words, *filter(None, [self.advice])])

    @property
    def advice(self) -> str | None:
        """What it would take to decide what is undecided."""
        open_ones = [m for m in self.meetings if m.difference.verdict == "undecided" and m.prompts is not None]
        if not open_ones:
            return None
        part = float(np.median([meeting.prompts for meeting in open_ones if meeting.prompts is not None]))
        what = "more test prompts (test_prompts in the protocol)" if part > 0.5 else "more seeds"
        return (
            f"undecided at {len(open_ones)} of {len(self.meetings)}: {what} would help, as the choice of prompts "
            f"explains {part:.0%} of the variance between seeds"
        )


def _place(place: tuple[str, str, str], places: Sequence[Any]) -> str:
    if len(places) == 1:
        return ""
    task, test, protocol = place
    return f"{protocol}, {task}{'' if test == task else f', tested on {test}'}: "


def sentence(first: str, second: str, meetings: Sequence[Meeting]) -> str:
    """`a against b: better at 3, 4 (by 0.31 to 0.52); no difference beyond 0.004 at 1, 2`."""
    by_kind: dict[str, list[Meeting]] = {}
    for meeting in meetings:
        by_kind.setdefault(_kind(meeting.difference), []).append(meeting)
    parts = [_part(kind, by_kind[kind]) for kind in KINDS if kind in by_kind]
    return f"{first} against {second}: {'; '.join(parts)}"


KINDS = {
    "better": "better",
    "worse": "worse",
    "none": f"no difference beyond {FEW:g}",
    "identical": "identical",
    "open": "undecided",
    "untested": "one common seed or none",
}


def _kind(difference: Difference) -> str:
    if difference.verdict in ("better", "worse", "identical"):
        return difference.verdict
    if difference.verdict == "none":
        return "untested"
    return "none" if difference.within is not None and difference.within <= FEW else "open"


def _part(kind: str, meetings: Sequence[Meeting]) -> str:
    at = f"at {', '.join(str(meeting.depth) for meeting in meetings)}"
    bounds = [meeting.difference.within for meeting in meetings if meeting.difference.within is not None]
    if kind in ("better", "worse"):
        sizes = sorted(abs(m.difference.mean) for m in meetings if m.difference.mean is not None)
        words = "" if not sizes else f" (by {_size(sizes[0])}{f' to {_size(sizes[-1])}' if len(sizes) > 1 else ''})"
        return f"{kind} {at}{words}"
    if kind == "none":
        return f"no difference beyond {at_most(max(bounds))} {at}"
    if kind == "open":
        return f"undecided {at}{f', up to {at_most(max(bounds))} either way' if bounds else ''}"
    return f"identical {at}" if kind == "identical" else f"one common seed or none {at}, which decides nothing"


def _size(value: float) -> str:
    return f"{value:.2g}" if value < 1 else f"{value:.1f}"
