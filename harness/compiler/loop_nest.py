"""The loops that `looped.py` has open while it emits an array, and the passes over their finished lines."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from .buffers import Buffer
from .ir import Operand

VECTORS = 4  # vectors of prompts in a tile


@dataclass
class Scope:
    """A block of the loop nest that is still open: its first line, its statements, and its variables by expression."""

    head: str
    lines: list[str] = field(default_factory=list)
    variables: dict[str, Operand] = field(default_factory=dict)


@dataclass
class Element:
    """The computation of a generic element of an array, in a loop nest that is still open."""

    scopes: list[Scope]  # the nest, outermost first
    operand: Operand
    position: Any  # in the flat array: an affine expression, or an int
    accumulator: Buffer | None  # of its sum over prompts, if that is what it is


def live(lines: list[str]) -> list[str]:
    """The lines without declarations of variables that no later line uses."""
    live_lines: list[str] = []
    used: set[str] = set()
    for line in reversed(lines):
        names = re.findall(r"\bt(\d+)", line)
        if line.startswith("const ") and names[0] not in used:
            continue
        used.update(names)
        live_lines.append(line)
    return live_lines[::-1]


def for_each_vector(line: str) -> list[str]:
    """A copy of the line for each vector of a tile, with its number in place of @; a line without an @ as it is."""
    return [line.replace("@", str(v)) for v in range(VECTORS)] if "@" in line else [line]
