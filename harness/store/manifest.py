"""What a store remembers of the sweeps that ran into it: which jobs each wants, and what it skips."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from ..spec.labels import digest, label
from ..spec.sweep import Sweep
from . import schema
from .store import Store


def want(store: Store, sweep: Sweep) -> None:
    """Record a sweep, and each sweep that is a part of it."""
    for part in _parts(sweep):
        store.write(f"sweeps/{part.name}.json", json.dumps(_wanted(part), indent=1))


def skip(store: Store, sweep: Sweep) -> None:
    """Record the combinations that a sweep and its parts leave out, each as a row of the jobs table."""
    found = {digest(row): row for part in _parts(sweep) for row in _skipped(_own(part))}
    known = set(store.rows("jobs", set(found))["job"].to_pylist()) if found else set()
    rows = [
        {name: row[name] for name in ("task", "solver", "protocol", "depth", "reason")}
        | {"job": job, "status": "skipped", "finished": datetime.now(UTC)}
        for job, row in found.items()
        if job not in known
    ]
    if rows:
        store.add({"jobs": pa.Table.from_pylist(rows, schema=schema.arrow("jobs"))})


def _parts(sweep: Sweep) -> Iterator[Sweep]:
    """It, and what it consists of."""
    yield sweep
    for part in sweep.parts:
        if part.name != sweep.name:
            yield from _parts(part)


def _wanted(sweep: Sweep) -> dict[str, Any]:
    """A sweep as the store remembers it: its own jobs, and the names of the sweeps that are parts of it."""
    own = _own(sweep)
    return {
        "name": sweep.name,
        "about": sweep.about.strip(),
        "protocols": list(dict.fromkeys(label(protocol) for part in own for protocol in part.protocols)),
        "jobs": list(dict.fromkeys(job.id for part in own for job in part.jobs())),
        "tests": list(dict.fromkeys(label(task) for part in own for task in part.tests)),
        "skipped": _skipped(own),
        "axis": next((part.axis for part in own if part.axis), None),
        "split": next((list(part.split) for part in own if part.split), []),
        "named": {name: list(labels) for part in own for name, labels in part.named.items()},
        "crossover": next((list(part.crossover) for part in own if part.crossover), []),
        "parts": [part.name for part in sweep.parts if part.name != sweep.name],
    }


def _own(sweep: Sweep) -> list[Sweep]:
    """What makes jobs under its name: itself, or the parts that have no name of their own."""
    return [part for part in sweep.parts if part.name == sweep.name] or ([] if sweep.parts else [sweep])


def _skipped(own: Sequence[Sweep]) -> list[dict[str, Any]]:
    return [
        {
            "task": label(skipped.task),
            "solver": label(skipped.solver),
            "depth": skipped.solver.depth,
            "protocol": label(skipped.protocol),
            "reason": skipped.reason,
        }
        for part in own
        for skipped in part.skipped
    ]
