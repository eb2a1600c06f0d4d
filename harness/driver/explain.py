"""What became of a job, from the store alone."""

from __future__ import annotations

import json
from typing import Any

import pyarrow.compute as pc

from ..errors import UserError
from ..spec import fingerprint
from ..spec.job import Case, Job
from ..spec.labels import find, label
from ..spec.protocol import Protocol
from ..spec.validation import build
from ..store.store import Store

SHOWN = 5  # of the jobs that an id may mean


def explain(store: Store, given: str) -> dict[str, Any]:
    """State, and why, of the job whose id begins so."""
    wanting = store.wanting()
    known = {job for jobs in wanting.values() for job in jobs}
    known |= set(store.column("jobs", "job", pc.starts_with(pc.field("job"), given)))
    found = sorted(job for job in known if job.startswith(given))
    if not found:
        raise UserError(f"no job of {store.out} has an id that begins with {given!r}; it knows {len(known)}")
    if len(found) > 1:
        shown = ", ".join(found[:SHOWN])
        more = ", ..." if len(found) > SHOWN else ""
        raise UserError(f"{given!r} begins the ids of {len(found)} jobs: {shown}{more}")
    [job] = found
    rows = store.rows("jobs", {job}).to_pylist()
    row = rows[0] if rows else {}
    what = "{solver} depth {depth} seed {seed} on {task}, {protocol}".format(**row) if row else ""
    results = store.rows("results", {job}).select(["test", "code"]).to_pylist()
    state, because = _state(store, row, {each["test"]: each["code"] for each in results})
    return {
        "job": job,
        "state": state,
        "because": because,
        "what": what,
        "wanted": ", ".join(name for name, jobs in wanting.items() if job in jobs),
        "ran": f"{row['finished']:%Y-%m-%d %H:%M} on {row['host']}, {row['version']}" if row.get("host") else "",
        "reason": row.get("reason"),
        "experts": _experts(row),
    }


def _experts(row: dict[str, Any]) -> list[str]:
    """What a mixture is made of: each expert in words, and its job."""
    if row.get("seed") is None or not row.get("spec"):
        return []
    made = Job(case_of(json.loads(row["spec"])), row["seed"]).experts
    return [f"{label(one.solver)} on {label(one.task)}, {label(one.protocol)}, job {one.id}" for one in made]


def _state(store: Store, row: dict[str, Any], tests: dict[str, str]) -> tuple[str, str]:
    """In a word, and in a sentence."""
    if not row:
        return "never ran", "The next run of its sweep does."
    if row["status"] == "skipped":
        return "skipped", "Its sweep says skip, and the combination makes no sense."
    if row["status"] == "failed":
        return "failed", "The next run of its sweep tries it again."
    case = case_of(json.loads(row["spec"]))
    if (old := tests.get(label(case.task))) is None:
        return "lost", "It ran, but its results are not there: the next run of its sweep makes them again."
    if old != fingerprint.code(case):
        what = store.explain(old, fingerprint.code_modules(case))
        return "stale", f"{what} since: the next run of its sweep does it again, unless told --stale keep."
    return row["status"], f"Results on {len(tests)} {'test' if len(tests) == 1 else 'tests'}."


def case_of(spec: dict[str, Any]) -> Case:
    """The case of a job's canonical form."""
    parts = {}
    for kind in ("task", "solver"):
        [(name, values)] = spec[kind].items()
        parts[kind] = build(find(kind, name), values)
    return Case(**parts, protocol=build(Protocol, spec["protocol"]))
