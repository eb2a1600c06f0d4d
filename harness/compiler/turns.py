"""Work that a block's threads share, in turns, with a barrier after each: none reads what is not written yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from .buffers import Buffer
from .cuda import WARP
from .ir import Memory


@dataclass(frozen=True)
class Work:
    """A line of work that the threads share. text: with a place for the number that a thread goes by."""

    reads: set[Memory]
    writes: Memory
    text: str
    by_step: bool = False  # whether it depends on the number of the step
    few: bool = False  # whether one warp has work with it


def constant(works: Sequence[Work], inputs: set[Memory]) -> tuple[list[Work], list[Work]]:
    """The work that is the same at all steps of a launch, and the rest. inputs: memory that no step changes."""
    known = set(inputs)
    same: list[Work] = []
    rest: list[Work] = []
    several = {memory for memory, times in Counter(work.writes for work in works).items() if times > 1}
    for work in works:
        out = work.writes
        once = isinstance(out, Buffer) and not out.accumulates and out not in several
        if once and not work.by_step and work.reads <= known:
            known.add(out)
            same.append(work)
        else:
            rest.append(work)
    return same, rest


def needed_for(read: set[Memory], works: Sequence[Work]) -> tuple[list[Work], list[Work]]:
    """The work that what is read needs, and the rest."""
    read = set(read)
    before: list[Work] = []
    after: list[Work] = []
    for work in reversed(works):
        if work.writes in read and isinstance(work.writes, Buffer):
            before.append(work)
            read |= work.reads
        else:
            after.append(work)
    return before[::-1], after[::-1]


def in_turns(works: Sequence[Work]) -> list[str]:
    """Lines of work, each as early as what it needs allows, with a barrier after each turn; warps begin with others."""
    turns: list[list[Work]] = []
    last: dict[Memory, int] = {}  # the turn after the one that wrote it
    free: dict[Memory, int] = {}  # the turn after the last one that read it
    for work in works:
        turn = max([0, *(last.get(m, 0) for m in work.reads), last.get(work.writes, 0), free.get(work.writes, 0)])
        last[work.writes] = turn + 1
        for memory in work.reads:
            free[memory] = max(free.get(memory, 0), turn + 1)
        if turn == len(turns):
            turns.append([])
        turns[turn].append(work)
    lines: list[str] = []
    for turn_works in turns:
        warp = 0
        for work in turn_works:
            lines.append(work.text.format(f"(thread + {WARP * warp}) % W" if work.few and warp else "thread"))
            warp += work.few
        lines.append("__syncthreads();")
    return lines
