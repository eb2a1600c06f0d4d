"""The layout of a program's buffers in its scratch memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .ir import BYTES, PROMPT, Memory


@dataclass(eq=False)
class Buffer(Memory):
    """An array in the program's own scratch memory."""

    accumulates: bool = False  # sums over prompts, each in every lane

    def bytes(self, lanes: int) -> int:
        """The size in bytes, rounded up to whole cache lines of 64."""
        wide = self.accumulates or self.level & PROMPT
        return -(-self.size * (lanes if wide else 1) * BYTES[self.type] // 64) * 64


@dataclass(frozen=True)
class Span:
    """The bytes that a buffer needs, and the numbers of the first and the last statement that use it."""

    buffer: Buffer
    bytes: int
    first: int
    last: int


Layout = dict[Memory, int]  # byte offsets


def consecutive(spans: Iterable[Span]) -> tuple[Layout, int]:
    """A layout of buffers one after the other; and the offset where it ends."""
    layout: Layout = {}
    end = 0
    for span in spans:
        layout[span.buffer] = end
        end += span.bytes
    return layout, end


def first_fit(spans: Iterable[Span]) -> tuple[Layout, int]:
    """A layout that reuses memory; and the offset where it ends.

    Each buffer goes into the first gap between the buffers that are in use when it is first written.
    """
    layout: Layout = {}
    live: list[tuple[int, Span]] = []
    end = 0
    for span in sorted(spans, key=lambda span: span.first):
        live = sorted(((at, other) for at, other in live if other.last >= span.first), key=lambda entry: entry[0])
        free = 0
        for at, other in live:
            if at - free >= span.bytes:
                break
            free = max(free, at + other.bytes)
        layout[span.buffer] = free
        live.append((free, span))
        end = max(end, free + span.bytes)
    return layout, end
