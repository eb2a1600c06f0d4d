"""What a finished pack leaves: rows for the store, and weights."""

from __future__ import annotations

import contextlib
import json
import math
import platform
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from . import engine, schema
from .cost import prior, structure
from .job import Job, label
from .pack import Pack
from .portrait import portrait
from .probe import parts
from .profile import Span, span, split, taken

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Outcome:
    """A pack's rows by table, and its weights by `job/parameter`."""

    pack: str
    tables: dict[str, pa.Table]
    weights: dict[str, np.ndarray[Any, Any]] = field(default_factory=dict)
    spans: list[Span] = field(default_factory=list)


def execute(pack: Pack, device: torch.device) -> Outcome:
    """Run a pack and write down what came of it."""
    taken("")  # of what ran here before
    begin, peak = time.perf_counter(), Peak(device)
    trained, tested = engine.run(pack, device)
    results: Rows = []
    settled = replace(pack, jobs=tuple(trained.jobs))
    with span("portrait"):
        polynomials, directions = portrait(settled, trained.params, device)
    for task, squared_error in tested:
        for j, job in enumerate(pack.jobs):
            if task == job.task:
                continue  # named among the tests as well
            reason = trained.diverged[j] or _overflow(squared_error[j])
            if task is None:
                trained.diverged[j] = reason  # a job fares as it does on its own task; another test speaks for itself
            row = _names(job) | _fate(trained, j, reason)
            row |= {"family": job.solver.family, "test": label(task or job.task)}
            with span("rows"):
                losses = _losses(squared_error[j].cpu().numpy(), reason is not None)
                own = _own(trained, j, directions[j]) if task is None else [{}] * len(losses)
                results.extend(row | loss | more for loss, more in zip(losses, own, strict=True))
    cost = _cost(pack, device, time.perf_counter() - begin, peak.bytes()) | {"engine": trained.engine}
    jobs = [
        _names(job)
        | _fate(trained, j, trained.diverged[j])
        | cost
        | {"spec": spec(job), "floors": job.case.floors, "polynomial": polynomials[j], **_tuned(job, trained, j)}
        for j, job in enumerate(pack.jobs)
    ]
    losses, norms = trained.losses.T.tolist(), trained.gradient_norms.T.tolist()
    curves = [
        {"job": job.id, "step": step, "loss": loss, "gradient_norm": norm}
        for j, job in enumerate(pack.jobs)
        if trained.curve_steps
        for step, loss, norm in zip(trained.curve_steps, losses[j], norms[j], strict=True)
        if step <= trained.steps[j]
    ]
    weights = {
        f"{job.id}/{name}": p[j].cpu().numpy().copy()
        for name, p in trained.params.items()
        for j, job in enumerate(pack.jobs)
    }
    with span("rows"):
        tables = _tables(results, jobs, curves)
    spans = taken(pack.id)
    if pack.profiled and trained.engine:
        with span("probe"):
            found = parts(pack, device)
        spans = split(spans, found) + [s for s in taken(pack.id) if s.name == "probe"]
    return Outcome(pack.id, tables, weights, spans)


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
    return Outcome(pack.id, _tables([], [_names(job) | fate | {"spec": spec(job)} for job in pack.jobs], []))


def spec(job: Job) -> str:
    """A job's canonical form as text."""
    return json.dumps(job.spec, sort_keys=True)


def _names(job: Job) -> dict[str, Any]:
    return {
        "job": job.id,
        "task": label(job.task),
        "solver": label(job.solver),
        "depth": job.solver.depth,
        "seed": job.seed,
        "protocol": label(job.protocol),
    }


def _fate(trained: engine.Trained, j: int, reason: str | None) -> dict[str, Any]:
    params = sum(p[j].numel() for p in trained.params.values())
    return {"status": "diverged" if reason else "done", "reason": reason, "params": params}


def _tuned(job: Job, trained: engine.Trained, j: int) -> dict[str, Any]:
    """What was chosen, and at what expense."""
    chosen = dict(trained.chosen[j])
    return {
        "learning_rate": chosen.pop("learning_rate", None),
        "tuned": json.dumps(chosen) if chosen else None,
        "trials": len(job.trials) if len(job.trials) > 1 or job.solver.family == "learned" else 0,
        "steps": trained.steps[j],
        "train_prompts": job.protocol.batch * -(-trained.steps[j] // (job.protocol.renew or job.protocol.steps)),
        "budget": trained.budget[j],
    }


def _overflow(squared_error: torch.Tensor) -> str | None:
    """Why a job counts as diverged on a test though training did not: an iterate has no finite mean error."""
    finite = squared_error.mean(-1).isfinite().tolist()
    return None if all(finite) else f"the test error is not finite from step {finite.index(False)} on"


def _own(trained: engine.Trained, j: int, directions: Sequence[float | None]) -> Rows:
    """What is known of the iterates on a job's own task alone."""
    excess = [None] * len(directions) if trained.excess is None else [0.0, *trained.excess[j].tolist()]
    return [{"conjugacy": cosine, "fit_error": e} for cosine, e in zip(directions, excess, strict=True)]


def _losses(squared_error: np.ndarray[Any, Any], diverged: bool) -> Rows:
    """A row per iterate, from squared errors `steps prompts`; without numbers where training diverged."""
    zero, prompts = squared_error[0], squared_error.shape[1]
    rows: Rows = [{"step": step, "prompts": prompts} for step in range(len(squared_error))]
    if diverged:
        return rows
    for row, error in zip(rows, squared_error, strict=True):
        median, q90, q99 = np.quantile(error, [0.5, 0.9, 0.99])
        mse = float(error.mean())
        row |= {
            "mse": mse,
            "log_mse": math.log(max(mse, sys.float_info.min)),
            "mse_normalised": mse / float(zero.mean()),
            "median": median,
            "q90": q90,
            "q99": q99,
            "failure_rate": float(1 - (error <= zero).mean()),
            "blocks": [float(block.mean()) for block in np.array_split(error, min(schema.BLOCKS, prompts))],
        }
    return rows


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
        "version": f"lfombench {version('lfombench')}, torch {torch.__version__}, Python {platform.python_version()}",
    }


def _tables(results: Rows, jobs: Rows, curves: Rows) -> dict[str, pa.Table]:
    rows = {"results": results, "jobs": jobs, "curves": curves}
    return {name: pa.Table.from_pylist(rows[name], schema=schema.arrow(name)) for name in schema.TABLES}
