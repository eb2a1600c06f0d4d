"""Run again what is behind one number of a store, alone, and say whether it comes out the same; if not, why."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from lfombench.analysis.published import undrawn

from ..errors import UserError, nearest
from ..scheduler.devices import device_name
from ..scheduler.executors import InProcess
from ..scheduler.packing import PlannedPack
from ..scheduler.pending import what_changed
from ..scheduler.schedule import outcomes
from ..spec import fingerprint
from ..spec.job import Job
from ..spec.labels import label
from ..spec.named import task_of
from ..spec.trust import named_by_a_store
from ..store import queries, side_files
from ..store.deviation import TOLERANCE, deviation
from ..store.store import Store
from ..training.execute import versions
from ..training.pack import Pack
from .explain import case_of, one_job
from .recorder import NoRecord

CELL = re.compile(r"(?P<solver>.+)@(?P<depth>\d+)")
NUMBERS = ("mse", "mse_normalised", "median", "q90", "q99", "failure_rate", "blocks")


@dataclass(frozen=True)
class Again:
    """One job, as the store has it and as it comes out now, at the iterate that the cell is of; None where lost.

    deviation: the largest of the log error over its iterates. same: whether every number is equal to the bit.
    """

    job: str
    seed: int
    stored: float | None
    now: float | None
    deviation: float
    same: bool

    @property
    def verdict(self) -> str:
        """equal, within or different."""
        return "equal" if self.same else "within" if self.deviation <= TOLERANCE else "different"


@dataclass(frozen=True)
class Reproduction:
    """The jobs behind a number; and in words what was different when they ran: code, versions, device, pack."""

    what: str
    jobs: Sequence[Again]
    differences: Sequence[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether all are equal, or within the tolerance."""
        return all(job.verdict != "different" for job in self.jobs)

    @property
    def words(self) -> str:
        """The answer in a sentence."""
        count = len(self.jobs)
        if all(job.same for job in self.jobs):
            return f"equal to the bit: {count} of {count} jobs"
        most = max(job.deviation for job in self.jobs)
        if self.passed:
            return f"within tolerance: the largest deviation is {most:.1e} in log error, of {TOLERANCE:g} allowed"
        bad = sum(job.verdict == "different" for job in self.jobs)
        return (
            f"different: {bad} of {count} jobs deviate by more than {TOLERANCE:g} in log error, by {most:.1e} at most"
        )


def reproduce(
    store: Store, what: str, task: str | None = None, protocol: str | None = None, test: str | None = None
) -> Reproduction:
    """Run again a job, by its id or the beginning of it, or a cell, `SOLVER@DEPTH`: all its seeds.

    task, protocol: labels that tell the cell from others of the store. test: the label of the task to compare on, where
    it is not the job's own.
    """
    cell = CELL.fullmatch(what)
    rows = _of_cell(store, cell["solver"], int(cell["depth"]), task, protocol) if cell else _of_job(store, what)
    step = int(cell["depth"]) if cell else None
    jobs = [Job(case_of(json.loads(row["spec"])), row["seed"]) for row in rows]
    old = queries.rows_of(store.place, "results", {job.id for job in jobs}).to_pylist()
    tests = sorted({row["test"] for row in old})
    if test is not None and test not in tests:
        raise UserError(f"test: {what} has no results on {test!r}; {nearest(test, tests)}")
    with named_by_a_store():
        further = () if test is None else (task_of(test),)
    packs = [PlannedPack(Pack((job,), further)) for job in jobs]
    ends = outcomes(packs, InProcess(), NoRecord(store))
    new = [row for _, outcome in ends for row in outcome.tables["results"].to_pylist()]
    again = [_compared(job, step, old, new, test) for job in sorted(jobs, key=lambda job: job.seed)]
    first = rows[0]
    tested = "" if test is None else f", tested on {test}"
    name = f"{first['solver']} at depth {step or first['depth']} on {first['task']}{tested}, {first['protocol']}"
    return Reproduction(name, again, _differences(store, rows, old, *further))


def _of_job(store: Store, prefix: str) -> list[dict[str, Any]]:
    if not re.fullmatch(r"[0-9a-f]+", prefix):
        raise UserError(f"{prefix!r} is neither a job's id, of digits and a to f, nor a cell, SOLVER@DEPTH")
    job = one_job(store, prefix)
    rows: list[dict[str, Any]] = queries.rows_of(store.place, "jobs", {job}).to_pylist()
    if not rows or rows[0]["status"] not in ("done", "diverged"):
        raise UserError(f"job {job} has no results to compare with; lfombench why {job} says more")
    return rows


def _of_cell(store: Store, solver: str, depth: int, task: str | None, protocol: str | None) -> list[dict[str, Any]]:
    """The rows of the jobs behind a cell: of this depth, or of the shallowest that passes it."""
    table = pl.DataFrame(pl.from_arrow(queries.table(store.place, "jobs")))
    jobs = table.unique("job", keep="last", maintain_order=True).filter(pl.col("status").is_in(["done", "diverged"]))
    known = jobs["solver"].unique().sort().to_list()
    if solver not in known:
        raise UserError(f"no solver {solver!r} in {store.out}; {nearest(solver, known)}")
    jobs = jobs.filter((pl.col("solver") == solver) & (pl.col("depth") >= depth))
    for name, value in (("task", task), ("protocol", protocol)):
        values = jobs[name].unique().sort().to_list()
        wanted = [known for known in values if value in (known, undrawn(known))]  # of a protocol, all its data seeds
        if value is not None and not wanted:
            raise UserError(f"{name}: {solver} has no results for {value!r}; {nearest(value, values)}")
        jobs = jobs.filter(pl.col(name).is_in(wanted)) if value is not None else jobs
        if value is None and len(values) > 1:
            raise UserError(
                f"{solver}@{depth} is on several boards: say which with --{name}, one of {'; '.join(values)}"
            )
    if jobs.is_empty():
        raise UserError(f"{solver} has no results at depth {depth}")
    return jobs.filter(pl.col("depth") == pl.col("depth").min()).sort("seed").to_dicts()


def _compared(
    job: Job, step: int | None, old: list[dict[str, Any]], new: list[dict[str, Any]], test: str | None
) -> Again:
    own = test or job.case.names["task"]
    before, after = (
        {row["step"]: row for row in rows if row["job"] == job.id and row["test"] == own} for rows in (old, new)
    )
    common = sorted(before.keys() & after.keys())
    if not common:
        raise UserError(f"job {job.id} failed now: lfombench run its sweep to see why")
    at = step if step in common else common[-1]
    return Again(
        job.id,
        job.seed,
        before[at]["log_mse"],
        after[at]["log_mse"],
        max(deviation(before[k], after[k]) for k in common),
        all(before[k][name] == after[k][name] for k in common for name in NUMBERS),
    )


def _differences(store: Store, rows: list[dict[str, Any]], old: list[dict[str, Any]], test: Any = None) -> list[str]:
    """What was different when these jobs ran, in words. test: the task that they are compared on, if not their own."""
    found = []
    case = case_of(json.loads(rows[0]["spec"]))
    own = label(test or case.task)
    for code in sorted({row["code"] for row in old if row["test"] == own and row["code"]}):
        if code != fingerprint.code(case, test):
            parts = side_files.code_parts(store.place, code)
            found.append(f"code: {what_changed(parts, fingerprint.code_parts(case, test))} since")
    here = device_name()
    found += [f"device: {name} then, {here} now" for name in _distinct(rows, "device") if name != here]
    ours = versions()
    found += [f"versions: {then} then, {ours} now" for then in _distinct(rows, "version") if then != ours]
    together = [row["pack_jobs"] for row in rows if row["pack_jobs"]]
    if together and max(together) > 1:
        found.append(f"pack: they ran {min(together)} to {max(together)} at a time then, alone now")
    return found


def _distinct(rows: list[dict[str, Any]], name: str) -> list[str]:
    return sorted({row[name] for row in rows if row[name]})
