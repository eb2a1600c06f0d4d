"""What became of a job, from the store alone."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

import polars as pl

from ..errors import UserError
from ..scheduler.pending import what_changed
from ..spec import fingerprint
from ..spec.job import Case, Job
from ..spec.labels import find, label
from ..spec.protocol import Protocol
from ..spec.trust import named_by_a_store
from ..spec.validation import build
from ..store import queries, side_files
from ..store.manifest import jobs_by_sweep
from ..store.place import Place
from ..store.store import Store

SHOWN = 5  # of the jobs that the beginning of an id may mean


def explain(store: Store, prefix: str) -> dict[str, Any]:
    """The state, and the reason for it, of the job whose id begins so; UserError where none or several do."""
    place = store.place
    wanted = jobs_by_sweep(place)
    job = one_job(store, prefix, {job for jobs in wanted.values() for job in jobs})
    rows = queries.rows_of(place, "jobs", {job}).to_pylist()
    row = rows[0] if rows else {}
    what = "{solver} depth {depth} seed {seed} on {task}, {protocol}".format(**row) if row else ""
    results = queries.rows_of(place, "results", {job}).select(["test", "code"]).to_pylist()
    state, because = _state(place, row, {result["test"]: result["code"] for result in results})
    return {
        "job": job,
        "state": state,
        "because": because,
        "what": what,
        "wanted": ", ".join(name for name, jobs in wanted.items() if job in jobs),
        "ran": f"{row['finished']:%Y-%m-%d %H:%M} on {row['host']}, {row['version']}" if row.get("host") else "",
        "reason": row.get("reason"),
        "experts": _experts(row),
    }


def one_job(store: Store, prefix: str, wanted: Collection[str] = ()) -> str:
    """The one job of the store, or of those its sweeps want, whose id begins so."""
    known = {*wanted} | set(queries.column(store.place, "jobs", "job", pl.col("job").str.starts_with(prefix)))
    matches = sorted(job for job in known if job.startswith(prefix))
    if not matches:
        every = {*wanted, *queries.column(store.place, "jobs", "job")}
        raise UserError(
            f"no job of {store.out} has an id that begins with {prefix!r}; it knows {len(every)}. "
            "A sweep that is new here, or whose files are gone, is known after the next run of it"
        )
    if len(matches) > 1:
        shown = ", ".join(matches[:SHOWN])
        more = ", ..." if len(matches) > SHOWN else ""
        raise UserError(f"{prefix!r} begins the ids of {len(matches)} jobs: {shown}{more}")
    return matches[0]


def _experts(row: dict[str, Any]) -> list[str]:
    """The experts of a mixture: each in words, and its job."""
    if row.get("seed") is None or not row.get("spec"):
        return []
    experts = Job(case_of(json.loads(row["spec"])), row["seed"]).experts
    return [f"{label(one.solver)} on {label(one.task)}, {label(one.protocol)}, job {one.id}" for one in experts]


def _state(place: Place, row: dict[str, Any], codes: dict[str, str]) -> tuple[str, str]:
    """The state in a word, and the reason in a sentence. codes: the fingerprint behind each test's results."""
    if not row:
        return "never ran", "The next run of its sweep does."
    if row["status"] == "skipped":
        return "skipped", "Its sweep says skip, and the combination makes no sense."
    if row["status"] == "failed":
        return "failed", "The next run of its sweep tries it again."
    case = case_of(json.loads(row["spec"]))
    if (old := codes.get(label(case.task))) is None:
        return "lost", "It ran, but its results are not there: the next run of its sweep makes them again."
    if old != fingerprint.code(case):
        what = what_changed(side_files.code_parts(place, old), fingerprint.code_parts(case))
        return "stale", f"{what} since: the next run of its sweep does it again, unless told --stale keep."
    return row["status"], f"Results on {len(codes)} {'test' if len(codes) == 1 else 'tests'}."


def case_of(spec: dict[str, Any]) -> Case:
    """The case of a job's canonical form, as a store has it. UserError where that names code that is not to be run."""
    parts = {}
    with named_by_a_store():
        for kind in ("task", "solver"):
            [(name, values)] = spec[kind].items()
            parts[kind] = build(find(kind, name), values)
        return Case(**parts, protocol=build(Protocol, spec["protocol"]))
