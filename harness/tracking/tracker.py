"""Write the MLflow view of a store: an experiment per sweep, a run per job; in a single thread of its own.

MLflow is never asked what is done: the store is the record, and the view can be rebuilt from it. A tracker begins by
asking which jobs the experiment already shows, and writes only the others.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import queue
import re
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import pyarrow as pa

from . import database

FINAL = ("mse", "log_mse", "median", "q90", "q99", "failure_rate")
WAITING = 256  # largest number of packs that wait to be written
AT_ONCE = 1000  # jobs that are read from the store at a time
POINTS = 20  # of a training curve, about: all those of the store, five times as many, would double MLflow's time
Row = dict[str, Any]
Tables = dict[str, pa.Table]


class Tracker:
    """Writes jobs to MLflow in a thread of its own. A failure is noted in `error` and never stops a sweep.

    Few packs wait in memory: those that finish faster than MLflow takes them are read from the store at the end.
    """

    def __init__(self, uri: str, sweep: str, artifacts: str | None) -> None:
        self.uri, self.sweep, self.artifacts = uri, sweep, artifacts
        self.error: str | None = None
        self.waiting: queue.Queue[Tables | None] = queue.Queue(WAITING)
        self.behind = self.over = False
        self.thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self.thread.start()

    def add(self, tables: Tables) -> None:
        """Queue these tables: their new jobs will be written soon."""
        try:
            self.waiting.put_nowait(tables)
        except queue.Full:
            self.behind = True

    def close(self, read: Callable[[str, set[str]], pa.Table], ids: Iterable[str]) -> None:
        """Wait until all these jobs are written. read: (table, jobs) -> rows, for the jobs that are not yet."""
        self.rest = (read, ids)
        while self.thread.is_alive():
            with contextlib.suppress(queue.Full):
                self.waiting.put(None, timeout=0.2)
                break
        self.thread.join()

    def abandon(self) -> None:
        """Stop without writing the jobs that are left; the next run writes them."""
        self.over = True
        self.add({})
        self.thread.join()

    def _work(self) -> None:
        """Write the queued tables until `close` or `abandon`; after `close` also the jobs that are left."""
        try:
            view = View(self.uri, self.sweep, self.artifacts)
            while (tables := self.waiting.get()) is not None and not self.over:
                view.show(tables)
            if self.over:
                return
            read, ids = self.rest
            left = (job for job in ids if job not in view.shown)
            while batch := set(itertools.islice(left, AT_ONCE)):
                view.show({name: read(name, batch) for name in ("jobs", "results", "curves")})
        except Exception as error:
            self.error = f"{type(error).__name__}: {error}"


class View:
    """An experiment in MLflow, and the jobs that it shows."""

    def __init__(self, uri: str, sweep: str, artifacts: str | None) -> None:
        self.sweep = sweep
        self.client, self.experiment = _open(uri, sweep, artifacts)
        self.shown = _shown(self.client, self.experiment)  # id of the run of each job

    def show(self, tables: Tables) -> None:
        """Write jobs as runs; to a job that has a run, add the losses of further tests."""
        losses, curves = _by_job(tables["results"]), _by_job(tables["curves"])
        jobs = tables["jobs"].to_pylist()
        for job in jobs:
            if job["job"] not in self.shown and job["status"] != "skipped":
                rows = losses.get(job["job"], []), curves.get(job["job"], [])
                run = _log(self.client, self.experiment, self.sweep, job, *rows)
                if job["status"] != "failed":
                    self.shown[job["job"]] = run
        for job_id in losses.keys() - {job["job"] for job in jobs}:
            if job_id in self.shown:
                _batch(self.client, self.shown[job_id], _metrics(losses[job_id], int(1000 * time.time())), [])


def prepare(uri: str) -> None:
    """Import MLflow, limit how long it waits for a server and what it says, and make the database it needs, if any."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    import mlflow  # noqa: F401 - which sets levels of its own

    for name in ("mlflow", "alembic", "urllib3"):
        logging.getLogger(name).setLevel(logging.ERROR)
    database.ready(uri)


def _open(uri: str, sweep: str, artifacts: str | None) -> tuple[Any, str]:
    """A client of MLflow and the id of a sweep's experiment, which is created if it is new."""
    prepare(uri)
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(sweep)
    if experiment is None:
        try:
            return client, str(client.create_experiment(sweep, artifact_location=artifacts))
        except MlflowException:
            experiment = client.get_experiment_by_name(sweep)  # another driver may have been quicker
            if experiment is None:
                raise
    return client, str(experiment.experiment_id)


def _shown(client: Any, experiment: str) -> dict[str, str]:
    """The id of each job's run, if it is complete. A job that failed gets a new run when it is tried again."""
    shown: dict[str, str] = {}
    token = None
    while True:
        page = client.search_runs([experiment], "attributes.status != 'RUNNING'", max_results=1000, page_token=token)
        complete = (run for run in page if run.data.tags.get("status") in ("done", "diverged"))
        shown |= {run.data.tags["job"]: run.info.run_id for run in complete}
        token = page.token
        if not token:
            return shown


def _by_job(table: pa.Table) -> dict[str, list[Row]]:
    """The rows of a table by job id."""
    rows: dict[str, list[Row]] = {}
    for row in table.to_pylist():
        rows.setdefault(row["job"], []).append(row)
    return rows


def _log(client: Any, experiment: str, sweep: str, job: Row, losses: list[Row], curve: list[Row]) -> str:
    """Write a job as a run, in three calls whatever the number of points; return the id of the run."""
    from mlflow.entities import Metric, Param

    end = int(job["finished"].timestamp() * 1000)
    begin = end - int(1000 * (job["pack_seconds"] or 0))
    tags = {key: str(job[key]) for key in ("job", "status", "task", "solver", "depth", "seed", "protocol", "pack")}
    # the UI cuts names short: first what most runs differ in
    solver, protocol = (job[key].partition("(") for key in ("solver", "protocol"))
    short = f"{solver[0]} L{job['depth']} s{job['seed']} {protocol[0]}"
    name = f"{short} {''.join(solver[1:])} {''.join(protocol[1:])}".rstrip()
    tags |= {"sweep": sweep, "mlflow.runName": name, "mlflow.source.name": "lfombench"}
    if job["reason"]:
        tags["reason"] = job["reason"][-5000:]
    metrics = [Metric(key, row[key], end, row["step"]) for row in thinned(curve) for key in ("loss", "gradient_norm")]
    metrics += _metrics(losses, end)
    params = [Param(key, str(value)[:500]) for key, value in _flat(json.loads(job["spec"])).items()]
    for key in ("learning_rate", "trials", "steps", "train_prompts", "budget", "params", "device"):
        if job[key] is not None:
            params.append(Param(f"used.{key}", str(job[key])))
    run = client.create_run(experiment, start_time=begin, tags=tags)
    _batch(client, run.info.run_id, metrics, params)
    client.set_terminated(run.info.run_id, "FINISHED" if job["status"] == "done" else "FAILED", end)
    return str(run.info.run_id)


def thinned(curve: list[Row]) -> list[Row]:
    """A training curve with about POINTS of its rows, equally far apart, and the last row."""
    return curve[: -1 : -(-len(curve) // POINTS)] + curve[-1:] if curve else []


def _metrics(losses: list[Row], end: int) -> list[Any]:
    """The losses of every step as one series per test, and all numbers of the last step."""
    from mlflow.entities import Metric

    metrics = []
    for row in losses:
        suffix = "" if row["test"] == row["task"] else "/" + re.sub(r"[^\w.-]+", "_", row["test"]).strip("_")
        if row["mse"] is not None:
            metrics.append(Metric(f"log_mse_by_step{suffix}", row["log_mse"], end, row["step"]))
            if row["step"] == row["depth"]:
                metrics += [Metric(f"{key}{suffix}", row[key], end, 0) for key in FINAL]
    return metrics


def _batch(client: Any, run: str, metrics: list[Any], params: list[Any]) -> None:
    """Log metrics and parameters, 800 metrics a call: MLflow takes 1000 entries at most."""
    for start in range(0, max(len(metrics), 1), 800):
        client.log_batch(run, metrics=metrics[start : start + 800], params=params if start == 0 else [])


def _flat(spec: Row) -> Row:
    """A spec with flat keys: `{"solver": {"memformer": {"depth": 4}}}` as `solver = memformer`, `solver.depth = 4`."""
    flat: Row = {}
    for part in ("task", "solver"):
        [(name, values)] = spec[part].items()
        flat |= {part: name} | {f"{part}.{key}": value for key, value in values.items()}
    return flat | {f"protocol.{key}": value for key, value in spec["protocol"].items()} | {"seed": spec["seed"]}
