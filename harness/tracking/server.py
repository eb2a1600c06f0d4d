"""Serve MLflow's own UI for a store, on the loopback address."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from urllib.error import URLError

import click

from ..errors import UserError
from ..store.filesystem import local
from .tracker import prepare
from .uris import artifacts, default_uri

HOST = "127.0.0.1"
VIEW = "?workflowType=machine_learning"  # hides the menus for agents and their traces


def serve(out: str, port: int | None, mlflow: str | None) -> int:
    """Run MLflow's server until it ends or the user presses Ctrl-C; return its exit code."""
    folder = local(out)
    if mlflow is None and folder is None:
        raise UserError(
            f"the runs of {out} are on the tracking server that --mlflow named; open that, or give --mlflow here"
        )
    uri = mlflow or default_uri(out)
    prepare(uri)
    if port is None:
        port = next(p for p in range(5000, 6000) if _free(p))
    elif not _free(port):
        raise UserError(f"--port {port} is taken; leave it out for the next free one")
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--backend-store-uri",
        uri,
        "--host",
        HOST,
        "--port",
        str(port),
    ]
    command += ["--workers", "1"]
    command += ["--default-artifact-root", artifacts(out)] if folder else []
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    log = folder / "mlflow-ui.log" if folder else Path(os.devnull)
    with log.open("wb") as sink:
        server = subprocess.Popen(
            command, env=environment, stdout=sink, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            click.echo("starting MLflow, a few seconds ...")
            _wait(server, port, log)
            for name, address in _pages(uri, port):
                click.echo(f"{name}: {address}")
            click.echo("Ctrl-C ends it")
            while server.poll() is None:  # not wait(): beside MLflow's threads, a signal does not always end it
                time.sleep(0.2)
            return server.returncode
        except KeyboardInterrupt:
            return 0
        finally:
            _stop(server)


def _stop(server: subprocess.Popen[bytes]) -> None:
    """End the server and the processes that it started: by SIGTERM, then by SIGKILL."""
    for signum in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signum)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(5)


def _free(port: int) -> bool:
    """Whether no process listens on a port."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) != 0


def _wait(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Wait until the server answers; UserError where it ends, or does not answer within about a minute."""
    for _ in range(240):
        if server.poll() is not None:
            raise UserError(f"MLflow's server ended at once: see {log}")
        try:
            with urllib.request.urlopen(f"http://{HOST}:{port}/health", timeout=1):
                return
        except (URLError, OSError):
            time.sleep(0.25)
    raise UserError(f"MLflow's server does not answer: see {log}")


def _pages(uri: str, port: int) -> list[tuple[str, str]]:
    """The name of every sweep and the address of its table of runs."""
    from mlflow import MlflowClient

    experiments = MlflowClient(tracking_uri=uri).search_experiments()
    return [
        (experiment.name, f"http://{HOST}:{port}/#/experiments/{experiment.experiment_id}/runs{VIEW}")
        for experiment in experiments
        if experiment.name != "Default"
    ] or [("no runs yet", f"http://{HOST}:{port}")]
