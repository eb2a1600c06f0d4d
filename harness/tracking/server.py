"""MLflow's own UI over a store, on loopback."""

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
from .tracker import default_uri, prepare

HOST = "127.0.0.1"
VIEW = "?workflowType=machine_learning"  # without the menus for agents and their traces


def serve(out: str, port: int | None, mlflow: str | None) -> int:
    """Run the server until it ends or Ctrl-C; its exit code."""
    if mlflow is None and "://" in out:
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
    command += ["--workers", "1", "--default-artifact-root", (Path(out).absolute() / "artifacts").as_uri()]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    log = Path(out) / "mlflow-ui.log" if "://" not in out else Path(os.devnull)
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
            while server.poll() is None:  # not wait(): with MLflow's threads about, a signal does not always end it
                time.sleep(0.2)
            return server.returncode
        except KeyboardInterrupt:
            return 0
        finally:
            _stop(server)


def _stop(server: subprocess.Popen[bytes]) -> None:
    """End the server and the processes it started, gently at first."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(5)


def _free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) != 0


def _wait(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
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
    """The runs table of every sweep."""
    from mlflow import MlflowClient

    found = MlflowClient(tracking_uri=uri).search_experiments()
    return [
        (each.name, f"http://{HOST}:{port}/#/experiments/{each.experiment_id}/runs{VIEW}")
        for each in found
        if each.name != "Default"
    ] or [("no runs yet", f"http://{HOST}:{port}")]
