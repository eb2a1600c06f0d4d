"""Where the arrays of a step lie in its scratch memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

BYTES = {"float": 4, "double": 8, "bool": 1, "int64_t": 8}


@dataclass
class Buffer:
    """The memory of an array."""

    name: str
    type: str
    size: int
    level: int
    mask: str
    lanes: int  # numbers an element takes
    made: int  # which of the arrays held it is, and which was the last to read it
    used: int
    crosses: bool = False  # made in the loop that draws, read in the one that trains

    @property
    def bytes(self) -> int:
        """In whole cache lines."""
        return -(-self.size * self.lanes * BYTES[self.type] // 64) * 64


Places = list[tuple[Buffer, int]]


def pointers(places: Places, base: str) -> list[str]:
    """Their declarations in C++."""
    return [f"{b.type}* {b.name} = ({b.type}*)({base} + {offset});" for b, offset in places]


def side_by_side(buffers: Iterable[Buffer], start: int) -> tuple[Places, int]:
    """Each in a place of its own; and where they end."""
    found: Places = []
    for buffer in buffers:
        found.append((buffer, start))
        start += buffer.bytes
    return found, start


def reusing(buffers: Iterable[Buffer], start: int) -> tuple[Places, int]:
    """Each in the first gap between those that are still needed when it is made; and where they end."""
    found: Places = []
    live: Places = []
    end = start
    for buffer in buffers:
        live = sorted(((b, at) for b, at in live if b.used >= buffer.made), key=lambda one: one[1])
        place = start
        for other, at in live:
            if at - place >= buffer.bytes:
                break
            place = max(place, at + other.bytes)
        found.append((buffer, place))
        live.append((buffer, place))
        end = max(end, place + buffer.bytes)
    return found, end
