"""The MLflow view of a store: an experiment per sweep, a run per job. One writer, in a thread of its own.

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
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa

FINAL = ("mse", "log_mse", "median", "q90", "q99", "failure_rate")
WAITING = 256  # packs at most
AT_ONCE = 1000  # jobs that are read from the store
POINTS = 20  # of a training curve, about: the store has five times as many, which would take MLflow as long as all else
Row = dict[str, Any]
Tables = dict[str, pa.Table]


def default_uri(out: str) -> str:
    """The database of a local store; a store elsewhere needs a server of its own."""
    return f"sqlite:///{Path(out).expanduser().absolute() / 'mlflow.db'}"


class Tracker:
    """Writes jobs to MLflow, off the critical path. Its failures are kept in `error`; they never stop a sweep.

    It holds few packs at a time: what finishes faster than MLflow takes it is read from the store at the end.
    """

    def __init__(self, uri: str, sweep: str, artifacts: str | None) -> None:
        self.uri, self.sweep, self.artifacts = uri, sweep, artifacts
        self.error: str | None = None
        self.waiting: queue.Queue[Tables | None] = queue.Queue(WAITING)
        self.behind = self.over = False
        self.thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self.thread.start()

    def add(self, tables: Tables) -> None:
        """Show what is new in these tables, soon."""
        try:
            self.waiting.put_nowait(tables)
        except queue.Full:
            self.behind = True

    def close(self, read: Callable[[str, set[str]], pa.Table], ids: Iterable[str]) -> None:
        """Wait until all these jobs are shown. read: (table, jobs) -> rows, for those that are not yet."""
        self.rest = (read, ids)
        while self.thread.is_alive():
            with contextlib.suppress(queue.Full):
                self.waiting.put(None, timeout=0.2)
                break
        self.thread.join()

    def abandon(self) -> None:
        """Leave the rest to the next run."""
        self.over = True
        self.add({})
        self.thread.join()

    def _work(self) -> None:
        try:
            view = View(self.uri, self.sweep, self.artifacts)
            while (tables := self.waiting.get()) is not None and not self.over:
                view.show(tables)
            if self.over:
                return
            read, ids = self.rest
            left = (job for job in ids if job not in view.shown)
            while some := set(itertools.islice(left, AT_ONCE)):
                view.show({name: read(name, some) for name in ("jobs", "results", "curves")})
        except Exception as error:
            self.error = f"{type(error).__name__}: {error}"


class View:
    """An experiment, and which jobs it shows."""

    def __init__(self, uri: str, sweep: str, artifacts: str | None) -> None:
        self.sweep = sweep
        self.client, self.experiment = _open(uri, sweep, artifacts)
        self.shown = _shown(self.client, self.experiment)  # the run of each job

    def show(self, tables: Tables) -> None:
        """Jobs as runs; of those that have one, what came of further tests."""
        losses, curves = _by_job(tables["results"]), _by_job(tables["curves"])
        jobs = tables["jobs"].to_pylist()
        for job in jobs:
            if job["job"] not in self.shown and job["status"] != "skipped":
                mine = losses.get(job["job"], []), curves.get(job["job"], [])
                run = _log(self.client, self.experiment, self.sweep, job, *mine)
                if job["status"] != "failed":
                    self.shown[job["job"]] = run
        for name in losses.keys() - {job["job"] for job in jobs}:
            if name in self.shown:
                _batch(self.client, self.shown[name], _metrics(losses[name], int(1000 * time.time())), [])


def prepare(uri: str) -> None:
    """Keep MLflow from waiting for ever, and let a SQLite database be read while it is written."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    if uri.startswith("sqlite:///"):
        connection = sqlite3.connect(uri.removeprefix("sqlite:///"))
        connection.execute("PRAGMA journal_mode=wal")
        connection.close()


def _open(uri: str, sweep: str, artifacts: str | None) -> tuple[Any, str]:
    prepare(uri)
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic", "urllib3"):  # after the import, which sets levels of its own
        logging.getLogger(name).setLevel(logging.ERROR)
    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(sweep)
    if found is not None:
        return client, str(found.experiment_id)
    return client, str(client.create_experiment(sweep, artifact_location=artifacts))


def _shown(client: Any, experiment: str) -> dict[str, str]:
    """Jobs whose run is complete, and that run. One that failed is shown again when it is tried again."""
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
    rows: dict[str, list[Row]] = {}
    for row in table.to_pylist():
        rows.setdefault(row["job"], []).append(row)
    return rows


def _log(client: Any, experiment: str, sweep: str, job: Row, losses: list[Row], curve: list[Row]) -> str:
    """One run: three calls, whatever the number of points. Its id."""
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
    """Every so many-th row, and the last."""
    return curve[: -1 : -(-len(curve) // POINTS)] + curve[-1:] if curve else []


def _metrics(losses: list[Row], end: int) -> list[Any]:
    """Losses by step, and those of the last one."""
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
    for at in range(0, max(len(metrics), 1), 800):
        client.log_batch(run, metrics=metrics[at : at + 800], params=params if at == 0 else [])


def _flat(spec: Row) -> Row:
    """`{"solver": {"memformer": {"depth": 4}}}` as `solver = memformer`, `solver.depth = 4`."""
    flat: Row = {}
    for part in ("task", "solver"):
        [(name, values)] = spec[part].items()
        flat |= {part: name} | {f"{part}.{key}": value for key, value in values.items()}
    return flat | {f"protocol.{key}": value for key, value in spec["protocol"].items()} | {"seed": spec["seed"]}
