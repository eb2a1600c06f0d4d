"""What a finished pack leaves: rows for the store, and weights."""

from __future__ import annotations

import contextlib
import functools
import json
import platform
import socket
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from lfombench.tasks import Task

from ..spans import Span, span, split, taken
from ..spec.fingerprint import code, code_modules
from ..spec.job import Job
from ..spec.labels import label
from ..store import schema
from . import train
from .checkpoint import Stage
from .cost import prior, structure
from .diagnostics import portrait
from .pack import Pack
from .step_profile import parts
from .summary import losses_of, overflow

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Outcome:
    """A pack's rows by table, and the modules behind each fingerprint in them."""

    pack: str
    tables: dict[str, pa.Table]
    jobs: int
    failed: tuple[tuple[str, str], ...] = ()  # what failed, and its traceback
    code: dict[str, dict[str, str]] = field(default_factory=dict)
    spans: list[Span] = field(default_factory=list)

    def __getstate__(self) -> dict[str, Any]:
        """Each table as one piece, which is ten times faster on its way than its columns one by one."""
        return vars(self) | {"tables": {name: _sent(table) for name, table in self.tables.items()}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        tables = {name: pa.ipc.open_stream(sent).read_all() for name, sent in state["tables"].items()}
        vars(self).update(state | {"tables": tables})

    @property
    def rows(self) -> int:
        """Of results."""
        return int(self.tables["results"].num_rows)


def _sent(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    sent: bytes = sink.getvalue().to_pybytes()
    return sent


def execute(pack: Pack, device: torch.device) -> Outcome:
    """Run a pack and write down what came of it."""
    return train.finished(stages(pack, device))


def stages(pack: Pack, device: torch.device) -> Generator[Stage, None, Outcome]:
    """The same, which stops where a checkpoint can be made."""
    taken("")  # of what ran here before
    begin, peak = time.perf_counter(), Peak(device)
    trained, tested = yield from train.stages(pack, device)
    settled = replace(pack, jobs=tuple(trained.jobs))
    with span("portrait"):
        polynomials, directions = ([], []) if pack.trained else portrait(settled, trained.params, device)
    found: list[pa.Table] = []
    for task, squared_error in tested:
        reasons = [before or now for before, now in zip(trained.diverged, overflow(squared_error), strict=True)]
        if task is None:
            trained.diverged = reasons  # a job fares as it does on its own task; another test speaks for itself
        with span("rows"):
            found.append(_results(pack, trained, task, squared_error.cpu().numpy(), reasons, directions))
    modules = {code(pack.first.case, task): code_modules(pack.first.case, task) for task in (None, *pack.tests)}
    with span("rows"):
        tables = {name: schema.arrow(name).empty_table() for name in schema.TABLES}
        tables["results"] = pa.concat_tables([tables["results"], *found])
        if not pack.trained:
            cost = _cost(pack, device, time.perf_counter() - begin, peak.bytes())
            tables["jobs"] = _table("jobs", _jobs(pack, trained, polynomials), cost | {"engine": trained.engine})
            tables["curves"] = _table("curves", _curves(pack, trained))
            tables["weights"] = _table("weights", _weights(pack, trained))
    spans = taken(pack.id)
    if pack.profiled and trained.engine:
        with span("probe"):
            found = parts(pack, device)
        spans = split(spans, found) + [s for s in taken(pack.id) if s.name == "probe"]
    return Outcome(pack.id, tables, len(pack.jobs), code=modules, spans=spans)


def _results(
    pack: Pack,
    trained: train.Trained,
    task: Task | None,
    squared_error: np.ndarray[Any, Any],
    reasons: Sequence[str | None],
    directions: Sequence[Any],
) -> pa.Table:
    """Rows of one test, from squared errors `jobs steps prompts`: what is the same for all steps of a job, repeated."""
    which = [j for j, job in enumerate(pack.jobs) if task != job.task]  # a job's own may be named among the tests
    steps = squared_error.shape[1]
    test = label(task) if task else None
    heads = [
        _names(job)
        | _fate(trained, j, reasons[j])
        | {"family": job.solver.family, "test": test or job.case.names["task"], "code": code(job.case, task)}
        for j, job in ((j, pack.jobs[j]) for j in which)
    ]
    losses: dict[str, list[Any]] = losses_of(squared_error[which], [reasons[j] is not None for j in which])
    if task is None:
        losses["conjugacy"] = [x for j in which for x in directions[j]]
        losses["fit_error"] = [x for j in which for x in _excess(trained, j, steps)]
    repeated = _table("results", heads).take(np.repeat(np.arange(len(which)), steps))
    columns = [
        pa.array(losses[f.name], f.type) if f.name in losses else repeated[f.name] for f in schema.arrow("results")
    ]
    return pa.table(columns, schema.arrow("results"))


def _jobs(pack: Pack, trained: train.Trained, polynomials: Sequence[Any]) -> Rows:
    return [
        _names(job)
        | _fate(trained, j, trained.diverged[j])
        | {"spec": job.spec, "floors": job.case.floors, "polynomial": polynomials[j]}
        | _tuned(job, trained, j)
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


class Peak:
    """How far the peak of memory rises from here on, in bytes."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self.before = torch.cuda.memory_allocated(device)
        else:
            with contextlib.suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5")  # the peak is the present again
            self.before = _status("VmRSS")

    def bytes(self) -> float | None:
        """So far; None where the system does not tell."""
        if self.device.type == "cuda":
            return float(torch.cuda.max_memory_allocated(self.device) - self.before)
        peak = _status("VmHWM")
        return float(max(peak - self.before, 0)) if peak else None


def _status(name: str) -> int:
    """A size of this process, from Linux; elsewhere 0."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(name):
                return 1024 * int(line.split()[1])
    return 0


def failure(pack: Pack, reason: str) -> Outcome:
    """A pack that raised: its jobs have no results, so the next run tries them again."""
    fate = _cost(pack, torch.device("cpu"), None, None) | {"status": "failed", "reason": reason}
    rows = [] if pack.trained else [_names(job) | {"spec": job.spec} for job in pack.jobs]
    names = (f"{label(job.solver)} depth {job.solver.depth} seed {job.seed}, job {job.id}" for job in pack.jobs)
    tables = {name: _table(name, rows if name == "jobs" else [], fate) for name in schema.TABLES}
    return Outcome(pack.id, tables, 0, tuple((name, reason) for name in names))


def _names(job: Job) -> dict[str, Any]:
    return {"job": job.id, "seed": job.seed, "code": code(job.case)} | job.case.names


def _fate(trained: train.Trained, j: int, reason: str | None) -> dict[str, Any]:
    params = sum(p[j].numel() for p in trained.params.values())
    return {"status": "diverged" if reason else "done", "reason": reason, "params": params}


def _tuned(job: Job, trained: train.Trained, j: int) -> dict[str, Any]:
    """What was chosen, and at what expense."""
    chosen = dict(trained.chosen[j])
    drawn = job.protocol.batch * -(-trained.steps[j] // (job.protocol.renew or job.protocol.steps))
    return {
        "learning_rate": chosen.pop("learning_rate", None),
        "tuned": json.dumps(chosen) if chosen else None,
        "trials": len(job.trials) if len(job.trials) > 1 or job.solver.family == "learned" else 0,
        "steps": trained.steps[j],
        "train_prompts": trained.budget[j] if job.solver.fits else drawn,
        "budget": trained.budget[j],
    }


def _excess(trained: train.Trained, j: int, steps: int) -> list[float | None]:
    """Of a fitted bound's mean error, after 0 .. depth steps."""
    return [None] * steps if trained.excess is None else [0.0, *trained.excess[j].tolist()]


def _cost(pack: Pack, device: torch.device, seconds: float | None, memory: float | None) -> dict[str, Any]:
    model, expected = prior(pack.first, len(pack.tests)), pack.expected
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
        "version": _versions(),
    }


@functools.cache
def _versions() -> str:
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
