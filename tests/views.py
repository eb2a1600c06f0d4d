"""Stores that are shown in MLflow, and what MLflow itself says of them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from lfombench.harness import Job, Sweep
from lfombench.harness.driver.manifests import record_sweep
from lfombench.harness.store import maintenance, queries, schema
from lfombench.harness.store.store import Store
from lfombench.harness.tracking.opened import identity, open_view
from lfombench.harness.tracking.sync import Told, Work, sync
from lfombench.harness.tracking.uris import Where, where
from lfombench.harness.tracking.verify import Found, verify
from lfombench.harness.tracking.view import View
from lfombench.harness.training.pack import Pack
from lfombench.solvers import ConjugateGradient, Solver
from lfombench.tasks import LinearRegression, Task
from tests.builders import QUICK, TASK, run

SOLVER = ConjugateGradient(depth=2)


def sweep_of(seeds: int = 3, *solvers: Solver, tests: tuple[Task, ...] = (), name: str = "viewed") -> Sweep:
    """A sweep of jobs that are done in milliseconds."""
    return Sweep(
        name=name, tasks=[TASK], solvers=list(solvers or [SOLVER]), protocols=[QUICK], seeds=range(seeds), tests=tests
    )


def commit(store: Store, sweep: Sweep, tests: tuple[Task, ...] = ()) -> list[str]:
    """Record a sweep and commit all its jobs; their ids."""
    record_sweep(store, sweep)
    jobs = list(sweep.jobs())
    packs: dict[Any, list[Job]] = {}
    for job in jobs:
        packs.setdefault(job.structure, []).append(job)
    store.commit([run(Pack(tuple(pack), tests)) for pack in packs.values()])
    return [job.id for job in jobs]


def shown_at(store: Store, uri: str | None = None) -> Where:
    """Where a store is shown."""
    found = where(store.out, uri, lambda text: None)
    assert found is not None
    return found


@contextlib.contextmanager
def opened(store: Store, uri: str | None = None) -> Iterator[View]:
    """The view of a store."""
    view = open_view(shown_at(store, uri), identity(store.place), lambda text: None)
    try:
        yield view
    finally:
        view.close()


def synced(store: Store, uri: str | None = None, told: Told | None = None, anew: bool = False) -> Work:
    """Make the view of a store equal to it."""
    with opened(store, uri) as view:
        return sync(store.place, identity(store.place), view, told, anew)


def verified(store: Store, uri: str | None = None) -> Found:
    """What is different in the view of a store."""
    with opened(store, uri) as view:
        return verify(store.place, identity(store.place), view)


def api(store: Store, uri: str | None = None) -> Any:
    """MLflow's own client."""
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=shown_at(store, uri).uri)


def runs(store: Store, uri: str | None = None, experiment: str = "viewed", kind: int = 1) -> list[Any]:
    """The runs of an experiment, as MLflow has them: the active ones."""
    client = api(store, uri)
    found = client.get_experiment_by_name(experiment)
    return list(client.search_runs([found.experiment_id], run_view_type=kind)) if found else []


def by_job(store: Store, uri: str | None = None, experiment: str = "viewed") -> dict[str, Any]:
    """The run of each job; every job has one at most."""
    found = [run for run in runs(store, uri, experiment) if "job" in run.data.tags]
    of = {run.data.tags["job"]: run for run in found}
    assert len(of) == len(found)
    return of


def other_task(**fields: Any) -> Task:
    """A task that tests a solver trained on another one."""
    return replace(LinearRegression(d=2, n=3), **fields)


def changed(store: Store, columns: dict, name: str = "results", where: pl.Expr | None = None) -> None:
    """Replace the rows of a table by others, as a run does whose code has changed: all in new commits."""
    rows = pl.DataFrame(pl.from_arrow(queries.table(store.place, name, None, where)))
    maintenance.remove(store, {name: where if where is not None else pl.lit(True)})
    store.add({name: rows.with_columns(**columns).to_arrow().cast(schema.arrow(name))})


class Server:
    """MLflow's own tracking server, on a database, which can be killed and started again at the same address."""

    def __init__(self, folder: Path, backend: str | None = None, environment: Mapping[str, str] = os.environ) -> None:
        self.folder, self.environment = folder, environment
        self.backend = backend or f"sqlite:///{folder}/server.db"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.options: list[str] = []

    def start(self) -> None:
        """Start it, and wait until it answers."""
        words = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", self.backend, "--workers", "1"]
        words += ["--default-artifact-root", (self.folder / "artifacts").as_uri(), "--port", str(self.port)]
        self.log = open(self.folder / "server.log", "ab")  # noqa: SIM115
        environment = {**self.environment, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        self.process = subprocess.Popen(
            [*words, *self.options], stdout=self.log, stderr=self.log, start_new_session=True, env=environment
        )
        for _ in range(600):
            assert self.process.poll() is None, (self.folder / "server.log").read_text()[-2000:]
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.uri}/health", timeout=1):
                return
            time.sleep(0.2)
        raise AssertionError((self.folder / "server.log").read_text()[-2000:])

    def kill(self) -> None:
        """Kill it and the processes that it has started: the port is closed then."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.log.close()

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()


def copied(finished: str, folder: Path) -> Store:
    """The store of the small sweep, without its view."""
    shutil.copytree(finished, folder / "out", ignore=shutil.ignore_patterns("mlflow.db*", "mlflow", "artifacts"))
    return Store(str(folder / "out"))
