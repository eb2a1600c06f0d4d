"""The layout of a step's arrays in its scratch memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

BYTES = {"float": 4, "double": 8, "bool": 1, "int64_t": 8}


@dataclass
class Buffer:
    """The memory of one array of the step, and its live range."""

    name: str
    type: str
    size: int  # elements of the array, prompts aside
    level: int
    mask: str
    lanes: int  # numbers per element
    defined: int  # the live range: the number of the array it holds, and of the last array that reads it
    last_use: int
    crosses: bool = False  # written in the loop `draw`, read in the loop `tile`

    @property
    def bytes(self) -> int:
        """The size in bytes, rounded up to whole cache lines of 64."""
        return -(-self.size * self.lanes * BYTES[self.type] // 64) * 64


Layout = list[tuple[Buffer, int]]  # buffers and their byte offsets


def pointers(layout: Layout, base: str) -> list[str]:
    """C++ declarations of a pointer to each buffer, relative to the pointer `base`."""
    return [f"{b.type}* {b.name} = ({b.type}*)({base} + {offset});" for b, offset in layout]


def consecutive(buffers: Iterable[Buffer], start: int) -> tuple[Layout, int]:
    """A layout of buffers one after the other, from offset `start` on; and the offset where it ends."""
    layout: Layout = []
    for buffer in buffers:
        layout.append((buffer, start))
        start += buffer.bytes
    return layout, start


def first_fit(buffers: Iterable[Buffer], start: int) -> tuple[Layout, int]:
    """A layout that reuses memory, from offset `start` on; and the offset where it ends.

    Each buffer goes into the first gap between the buffers that are live when it is defined.
    """
    layout: Layout = []
    live: Layout = []
    end = start
    for buffer in buffers:
        live = sorted(((b, offset) for b, offset in live if b.last_use >= buffer.defined), key=lambda entry: entry[1])
        free = start
        for other, offset in live:
            if offset - free >= buffer.bytes:
                break
            free = max(free, offset + other.bytes)
        layout.append((buffer, free))
        live.append((buffer, free))
        end = max(end, free + buffer.bytes)
    return layout, end
