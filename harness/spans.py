"""Profile a run: spans of work with their begin and end, a trace for chrome://tracing, and seconds by kind of work."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

PARTS = ("draw", "forward", "backward", "optimiser")  # of a training step
ORDER = ("compile", *PARTS, "train", "validation", "fit", "test", "rows", "probe", "commit")


@dataclass(frozen=True)
class Span:
    """A piece of work on a worker, or the driver's, with its begin and end in seconds since the epoch."""

    name: str
    begin: float
    end: float
    pack: str = ""
    worker: str = ""


class _Noted(threading.local):
    """Spans of this thread, since its last call of `taken`."""

    def __init__(self) -> None:
        self.spans: list[Span] = []


_noted = _Noted()


@contextmanager
def span(name: str, into: list[Span] | None = None) -> Iterator[None]:
    """Note a span for the block under `with`. Spans do not nest.

    into: where it is noted; by default among those of this thread that `taken` returns, the work on packs.
    """
    begin = time.time()
    try:
        yield
    finally:
        (_noted.spans if into is None else into).append(Span(name, begin, time.time()))


def taken(pack: str, worker: str | None = None) -> list[Span]:
    """Return the spans noted since the last call, and forget them. worker: by default this host and process."""
    thread = threading.current_thread()
    own = "" if thread is threading.main_thread() else f":{thread.name}"
    worker = f"{socket.gethostname()}:{os.getpid()}{own}" if worker is None else worker
    spans = [Span(s.name, s.begin, s.end, pack, worker) for s in _noted.spans]
    _noted.spans.clear()
    return spans


def split(spans: Sequence[Span], shares: Sequence[float]) -> list[Span]:
    """Replace each training span by spans of its four parts, of these shares: a compiled step runs all in one loop."""
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
    """Seconds by kind of work, on all workers; the rest of their time is `idle`. Commits are work of the driver."""
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
