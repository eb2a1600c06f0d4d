"""The MLflow view of a store: an experiment per sweep, a run per job. One writer, in a thread of its own.

MLflow is never asked what is done: the store is the record, and the view can be rebuilt from it. A tracker begins by
asking which jobs the experiment already shows, and writes only the others.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import re
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa

FINAL = ("mse", "log_mse", "median", "q90", "q99", "failure_rate")
Row = dict[str, Any]


def default_uri(out: str) -> str:
    """The database of a local store; a store elsewhere needs a server of its own."""
    return f"sqlite:///{Path(out).expanduser().absolute() / 'mlflow.db'}"


class Tracker:
    """Writes jobs to MLflow, off the critical path. Its failures are kept in `error`; they never stop a sweep."""

    def __init__(self, uri: str, sweep: str, artifacts: str | None) -> None:
        self.uri, self.sweep, self.artifacts = uri, sweep, artifacts
        self.error: str | None = None
        self.waiting: queue.Queue[dict[str, pa.Table] | None] = queue.Queue()
        self.thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self.thread.start()

    def add(self, tables: dict[str, pa.Table]) -> None:
        """Show these jobs, given with their results and curves."""
        self.waiting.put(tables)

    def close(self) -> None:
        """Wait until all is written."""
        self.waiting.put(None)
        self.thread.join()

    def _work(self) -> None:
        try:
            client, experiment = _open(self.uri, self.sweep, self.artifacts)
            shown = _shown(client, experiment)
            while (tables := self.waiting.get()) is not None:
                losses, curves = _by_job(tables["results"]), _by_job(tables["curves"])
                for job in tables["jobs"].to_pylist():
                    if job["job"] not in shown:
                        _log(
                            client, experiment, self.sweep, job, losses.get(job["job"], []), curves.get(job["job"], [])
                        )
                        shown.add(job["job"])
        except Exception as error:
            self.error = f"{type(error).__name__}: {error}"


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


def _shown(client: Any, experiment: str) -> set[str]:
    """Jobs whose run is complete. One that failed is shown again when it is tried again."""
    shown: set[str] = set()
    token = None
    while True:
        page = client.search_runs([experiment], "attributes.status != 'RUNNING'", max_results=1000, page_token=token)
        shown |= {run.data.tags["job"] for run in page if run.data.tags.get("status") in ("done", "diverged")}
        token = page.token
        if not token:
            return shown


def _by_job(table: pa.Table) -> dict[str, list[Row]]:
    rows: dict[str, list[Row]] = {}
    for row in table.to_pylist():
        rows.setdefault(row["job"], []).append(row)
    return rows


def _log(client: Any, experiment: str, sweep: str, job: Row, losses: list[Row], curve: list[Row]) -> None:
    """One run: three calls, whatever the number of points."""
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
    metrics = [Metric(key, row[key], end, row["step"]) for row in curve for key in ("loss", "gradient_norm")]
    for row in losses:
        suffix = "" if row["test"] == job["task"] else "/" + re.sub(r"[^\w.-]+", "_", row["test"]).strip("_")
        if row["mse"] is not None:
            metrics.append(Metric(f"log_mse_by_step{suffix}", row["log_mse"], end, row["step"]))
            if row["step"] == row["depth"]:
                metrics += [Metric(f"{key}{suffix}", row[key], end, 0) for key in FINAL]
    params = [Param(key, str(value)[:500]) for key, value in _flat(json.loads(job["spec"])).items()]
    for key in ("learning_rate", "trials", "steps", "train_prompts", "budget", "params", "device"):
        if job[key] is not None:
            params.append(Param(f"used.{key}", str(job[key])))
    run = client.create_run(experiment, start_time=begin, tags=tags)
    for at in range(0, max(len(metrics), 1), 800):
        client.log_batch(run.info.run_id, metrics=metrics[at : at + 800], params=params if at == 0 else [])
    client.set_terminated(run.info.run_id, "FINISHED" if job["status"] == "done" else "FAILED", end)


def _flat(spec: Row) -> Row:
    """`{"solver": {"memformer": {"depth": 4}}}` as `solver = memformer`, `solver.depth = 4`."""
    flat: Row = {}
    for part in ("task", "solver"):
        [(name, values)] = spec[part].items()
        flat |= {part: name} | {f"{part}.{key}": value for key, value in values.items()}
    return flat | {f"protocol.{key}": value for key, value in spec["protocol"].items()} | {"seed": spec["seed"]}
