"""Where the time of a run goes: spans noted as they happen, a trace for chrome://tracing, and a table of shares."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

PARTS = ("draw", "forward", "backward", "optimiser")  # of a training step
ORDER = ("compile", *PARTS, "train", "validation", "fit", "test", "rows", "probe", "commit")


@dataclass(frozen=True)
class Span:
    """A piece of work, with its begin and end in seconds since the epoch."""

    name: str
    begin: float
    end: float
    pack: str = ""
    worker: str = ""


_noted: list[Span] = []


@contextmanager
def span(name: str) -> Iterator[None]:
    """Note how long the block inside takes. Spans do not nest."""
    begin = time.time()
    try:
        yield
    finally:
        _noted.append(Span(name, begin, time.time()))


def taken(pack: str, worker: str | None = None) -> list[Span]:
    """The spans noted since the last call, as those of a pack on a worker: this process unless named."""
    worker = f"{socket.gethostname()}:{os.getpid()}" if worker is None else worker
    spans = [Span(s.name, s.begin, s.end, pack, worker) for s in _noted]
    _noted.clear()
    return spans


def split(spans: Sequence[Span], shares: Sequence[float]) -> list[Span]:
    """Training spans as their parts, in proportion: a compiled step does all four in one loop."""
    pieces = []
    for s in spans:
        if s.name != "train":
            pieces.append(s)
            continue
        begin = s.begin
        for name, share in zip(PARTS, shares, strict=True):
            end = begin + share * (s.end - s.begin)
            pieces.append(Span(name, begin, end, s.pack, s.worker))
            begin = end
    return pieces


def shares_of_time(spans: Sequence[Span], workers: int, seconds: float) -> dict[str, float]:
    """Seconds by what they went to, on all workers; what is left of their time is idle. Commits are the driver's."""
    totals: dict[str, float] = {}
    for s in spans:
        totals[s.name] = totals.get(s.name, 0.0) + s.end - s.begin
    busy = sum(value for name, value in totals.items() if name != "commit")
    totals["idle"] = max(workers * seconds - busy, 0.0)
    return {name: totals[name] for name in (*ORDER, "idle") if name in totals}


def chrome(spans: Sequence[Span]) -> str:
    """The spans in Chrome's trace format: a row for each worker, and one for the driver."""
    workers = list(dict.fromkeys(s.worker for s in spans))
    start = min((s.begin for s in spans), default=0.0)
    names = [
        {"ph": "M", "name": "thread_name", "pid": 0, "tid": i, "args": {"name": worker or "driver"}}
        for i, worker in enumerate(workers)
    ]
    events = [
        {
            "ph": "X",
            "name": s.name,
            "pid": 0,
            "tid": workers.index(s.worker),
            "ts": round(1e6 * (s.begin - start)),
            "dur": round(1e6 * (s.end - s.begin)),
            "args": {"pack": s.pack},
        }
        for s in spans
    ]
    return json.dumps({"traceEvents": names + events, "displayTimeUnit": "ms"})
