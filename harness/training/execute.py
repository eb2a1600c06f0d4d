"""Run a pack, and write down what came of it: its rows for every table of the store."""

from __future__ import annotations

import functools
import json
import platform
import socket
import time
from collections.abc import Generator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float

from lfombench.tasks import Task

from ..spans import span, split, taken
from ..spec.fingerprint import code, code_parts
from ..spec.job import Job
from ..spec.labels import label
from ..store import schema
from ..store.outcome import Outcome
from . import train
from .checkpoint import Stage
from .cost import prior, structure
from .diagnostics import diagnostics
from .flops import flops
from .pack import Cost, Pack, WorkOrder
from .peak import Peak
from .step_profile import budget, parts
from .summary import losses_of, overflow

Rows = list[dict[str, Any]]


def execute(order: WorkOrder, device: torch.device) -> Outcome:
    """Run a pack to its end."""
    return train.result(stages(order, device))


def stages(order: WorkOrder, device: torch.device) -> Generator[Stage, None, Outcome]:
    """`execute`, which stops where a checkpoint can be made."""
    with Peak(device) as peak:
        outcome = yield from _stages(order, device, peak)
    return outcome


def _stages(order: WorkOrder, device: torch.device, peak: Peak) -> Generator[Stage, None, Outcome]:
    taken("")  # spans of what ran here before
    pack = order.pack
    begin = time.perf_counter()
    trained, tests = yield from train.stages(order, device)
    with span("portrait"):
        tuned = order.for_jobs(trained.jobs).pack
        polynomials, cosines = ([], []) if pack.trained else diagnostics(tuned, trained.params, device)
    results: list[pa.Table] = []
    for task, squared_error in tests:
        reasons = [first or then for first, then in zip(trained.diverged, overflow(squared_error), strict=True)]
        if task is None:
            trained.diverged = reasons  # a job's status is that on its own task; every other test speaks for itself
        with span("rows"):
            results.append(_results(pack, trained, task, squared_error, reasons, cosines))
    codes = {code(pack.first.case, task): code_parts(pack.first.case, task) for task in (None, *pack.tests)}
    with span("rows"):
        tables = {name: schema.arrow(name).empty_table() for name in schema.TABLES}
        tables["results"] = pa.concat_tables([tables["results"], *results])
        if not pack.trained:
            cost = _cost(pack, order.expected, device, time.perf_counter() - begin, peak.bytes())
            tables["jobs"] = _table("jobs", _jobs(pack, trained, polynomials), cost | {"engine": trained.engine})
            tables["curves"] = _table("curves", _curves(pack, trained))
            tables["weights"] = _table("weights", _weights(pack, trained))
    spans = taken(pack.id)
    if order.profiled and trained.engine and budget.allows():
        with span("probe"):
            shares = parts(order, device)
        probes = [s for s in taken(pack.id) if s.name == "probe"]
        budget.spend(sum(s.end - s.begin for s in probes))
        spans = split(spans, shares) + probes
    return Outcome(pack.id, tables, len(pack.jobs), code=codes, spans=spans)


def failure(pack: Pack, expected: Cost | None, reason: str) -> Outcome:
    """The outcome of a pack that raised: its jobs have no results, so the next run tries them again."""
    cost = _cost(pack, expected, torch.device("cpu"), None, None)
    rows = [] if pack.trained else [_names(job) | {"spec": job.spec} for job in pack.jobs]
    names = (f"{label(job.solver)} depth {job.solver.depth} seed {job.seed}, job {job.id}" for job in pack.jobs)
    same = cost | {"status": "failed", "reason": reason}
    tables = {name: _table(name, rows if name == "jobs" else [], same) for name in schema.TABLES}
    return Outcome(pack.id, tables, 0, tuple((name, reason) for name in names))


def _results(
    pack: Pack,
    trained: train.Trained,
    task: Task | None,
    squared_error: Float[torch.Tensor, "jobs steps prompts"],
    reasons: Sequence[str | None],
    cosines: Sequence[Any],
) -> pa.Table:
    """Rows of one test."""
    which = [j for j, job in enumerate(pack.jobs) if task != job.task]  # a job's own task may be among the tests
    steps = squared_error.shape[1]
    test = label(task) if task else None
    heads = [  # what is the same for all steps of a job
        _names(job)
        | _status(trained, j, reasons[j])
        | {"family": job.solver.family, "test": test or job.case.names["task"], "code": code(job.case, task)}
        for j, job in ((j, pack.jobs[j]) for j in which)
    ]
    losses: dict[str, list[Any]] = losses_of(squared_error[which], [reasons[j] is not None for j in which])
    if task is None:
        losses["conjugacy"] = [x for j in which for x in cosines[j]]
        losses["fit_error"] = [x for j in which for x in _excess(trained, j, steps)]
    repeated = _table("results", heads).take(np.repeat(np.arange(len(which)), steps))
    columns = [
        pa.array(losses[f.name], f.type) if f.name in losses else repeated[f.name] for f in schema.arrow("results")
    ]
    return pa.table(columns, schema.arrow("results"))


def _jobs(pack: Pack, trained: train.Trained, polynomials: Sequence[Any]) -> Rows:
    operations = flops(pack, trained.params)
    return [
        _names(job)
        | _status(trained, j, trained.diverged[j])
        | {"spec": job.spec, "floors": job.case.floors, "polynomial": polynomials[j], "flops": operations}
        | _tuning(job, trained, j)
        for j, job in enumerate(pack.jobs)
    ]


def _curves(pack: Pack, trained: train.Trained) -> Rows:
    losses, norms = trained.losses.T.tolist(), trained.gradient_norms.T.tolist()
    return [
        {"job": job.id, "step": step, "loss": loss, "gradient_norm": norm}
        for j, job in enumerate(pack.jobs)
        if trained.curve_steps
        for step, loss, norm in zip(trained.curve_steps, losses[j], norms[j], strict=True)
        if step <= trained.steps[j]
    ]


def _weights(pack: Pack, trained: train.Trained) -> Rows:
    return [
        {"job": job.id, "name": name, "dtype": str(p.dtype).removeprefix("torch."), "shape": p.shape[1:], "values": v}
        for name, p in trained.params.items()
        for job, v in zip(pack.jobs, p.flatten(1).double().cpu().numpy(), strict=True)
    ]


def _names(job: Job) -> dict[str, Any]:
    return {"job": job.id, "seed": job.seed, "code": code(job.case)} | job.case.names


def _status(trained: train.Trained, j: int, reason: str | None) -> dict[str, Any]:
    params = sum(p[j].numel() for p in trained.params.values())
    return {"status": "diverged" if reason else "done", "reason": reason, "params": params}


def _tuning(job: Job, trained: train.Trained, j: int) -> dict[str, Any]:
    """What was chosen for a job, and what choosing and training it took."""
    chosen = dict(trained.chosen[j])
    labels = job.task.n + (job.protocol.labels == "query")  # or each example is left out in turn as the query
    drawn = job.protocol.batch * -(-trained.steps[j] // (job.protocol.renew or job.protocol.steps))
    return {
        "learning_rate": chosen.pop("learning_rate", None),
        "tuned": json.dumps(chosen) if chosen else None,
        "trials": len(job.trials) if len(job.trials) > 1 or job.solver.family == "learned" else 0,
        "steps": trained.steps[j],
        "train_prompts": trained.budget[j] if job.solver.fits else drawn,
        "budget": trained.budget[j],
        "labels": trained.budget[j] * labels,
    }


def _excess(trained: train.Trained, j: int, steps: int) -> list[float | None]:
    """Expected excess of a fitted bound's mean error, after 0 .. depth steps."""
    return [None] * steps if trained.excess is None else [0.0, *trained.excess[j].tolist()]


def _cost(
    pack: Pack, expected: Cost | None, device: torch.device, seconds: float | None, memory: float | None
) -> dict[str, Any]:
    model = prior(pack.first, len(pack.tests))
    return {
        "pack": pack.id,
        "pack_jobs": len(pack.jobs),
        "structure": structure(pack.first),
        "prior_seconds": model.seconds(len(pack.jobs)),
        "predicted_seconds": expected and expected.seconds,
        "predicted_low": expected and expected.low,
        "predicted_high": expected and expected.high,
        "pack_seconds": seconds,
        "prior_memory": model.bytes(len(pack.jobs)),
        "predicted_memory": expected and expected.memory,
        "pack_memory": memory,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "host": socket.gethostname(),
        "finished": datetime.now(UTC),
        "version": versions(),
    }


@functools.cache
def versions() -> str:
    """The versions of lfombench, torch and Python, as the jobs table has them."""
    return f"lfombench {version('lfombench')}, torch {torch.__version__}, Python {platform.python_version()}"


def _table(name: str, rows: Rows, same: dict[str, Any] | None = None) -> pa.Table:
    """A table from rows, and from values that are the same in all of them."""
    same = same or {}
    columns = [
        pa.repeat(pa.scalar(same[f.name], f.type), len(rows))
        if f.name in same
        else pa.array([row.get(f.name) for row in rows], f.type)
        for f in schema.arrow(name)
    ]
    return pa.table(columns, schema.arrow(name))
