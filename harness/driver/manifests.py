"""Recording a sweep in a store: its manifest, and the combinations it skips."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from ..spec.labels import digest, label
from ..spec.sweep import Sweep
from ..store import queries, schema
from ..store.manifest import Asked, Manifest, path_of
from ..store.store import Store


def record_sweep(store: Store, sweep: Sweep) -> None:
    """Write the manifest of a sweep, and of each sweep that is a part of it."""
    for part in _with_parts(sweep):
        store.write(path_of(part.name), manifest_of(part).content)


def record_skipped(store: Store, sweep: Sweep) -> None:
    """Add each combination that a sweep and its parts skip as a row of the jobs table, unless it is there."""
    rows = {digest(row): row for part in _with_parts(sweep) for row in _skipped(part.own_grids)}
    known = set(queries.rows_of(store.place, "jobs", set(rows))["job"].to_pylist()) if rows else set()
    new = [
        {name: row[name] for name in ("task", "solver", "protocol", "depth", "reason")}
        | {"job": job, "status": "skipped", "finished": datetime.now(UTC)}
        for job, row in rows.items()
        if job not in known
    ]
    if new:
        store.add({"jobs": pa.Table.from_pylist(new, schema=schema.arrow("jobs"))})


def manifest_of(sweep: Sweep) -> Manifest:
    """A sweep as the store remembers it: its own jobs, and the names of the sweeps that are parts of it."""
    grids = sweep.own_grids
    ids, asked = _listed(grids)
    return Manifest(
        name=sweep.name,
        about=sweep.about.strip(),
        protocols=list(dict.fromkeys(label(protocol) for grid in grids for protocol in grid.protocols)),
        jobs=ids,
        tests=list(dict.fromkeys(label(task) for grid in grids for task in grid.tests)),
        skipped=_skipped(grids),
        axis=next((grid.axis for grid in grids if grid.axis), None),
        split=next((list(grid.split) for grid in grids if grid.split), []),
        named={name: list(labels) for grid in grids for name, labels in grid.named.items()},
        crossover=next((list(grid.crossover) for grid in grids if grid.crossover), []),
        parts=[part.name for part in sweep.parts if part.name != sweep.name],
        extended=sweep.extended,
        asked=asked,
    )


def _listed(grids: Sequence[Sweep]) -> tuple[list[str], list[Asked]]:
    """The ids of all jobs, and their cases with the seeds of each."""
    ids, cases = dict[str, None](), dict[tuple[Any, ...], Asked]()
    for job, further in (entry for grid in grids for entry in grid.entries()):
        case, ids[job.id] = job.case, None
        tests = [name for name in map(label, further) if name != case.names["task"]]
        asked = Asked(**case.names, family=job.solver.family, told=case.told, tests=tests, seeds=[])
        cases.setdefault(asked.case, asked).seeds.append(job.seed)
    return list(ids), [replace(asked, seeds=list(dict.fromkeys(asked.seeds))) for asked in cases.values()]


def _with_parts(sweep: Sweep) -> Iterator[Sweep]:
    """The sweep, and the named sweeps that are parts of it, at any depth."""
    yield sweep
    for part in sweep.parts:
        if part.name != sweep.name:
            yield from _with_parts(part)


def _skipped(grids: Sequence[Sweep]) -> list[dict[str, Any]]:
    return [
        {
            "task": label(skipped.task),
            "solver": label(skipped.solver),
            "depth": skipped.solver.depth,
            "protocol": label(skipped.protocol),
            "reason": skipped.reason,
        }
        for grid in grids
        for skipped in grid.skipped
    ]
