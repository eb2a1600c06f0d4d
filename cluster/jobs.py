"""Sweeps on a cluster, through Ray Jobs: the cluster runs the same `lfombench run` as a laptop."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lfombench.harness.errors import UserError
from lfombench.harness.scheduler.address import reachable

ENDED = {"SUCCEEDED": 0, "FAILED": 1, "STOPPED": 3}


def submit(sweep: str, *, address: str, out: str, code: str | None, options: list[str]) -> str:
    """Start a sweep on the cluster, and return the name of its job.

    sweep: a file on this machine, or a shipped sweep. out: a folder that every node shares, or an object store. code: a
    folder with your own tasks and solvers, which is sent along. options: passed on to `lfombench run`.
    """
    with tempfile.TemporaryDirectory() as folder:
        if code:
            shutil.copytree(code, folder, dirs_exist_ok=True)
        if Path(sweep).is_file():
            sweep = shutil.copy(sweep, folder)
            sweep = Path(sweep).name
        command = ["python", "-m", "lfombench", "run", sweep, "--address", "auto", "--out", out, *options]
        environment = {"working_dir": folder, "env_vars": {"PYTHONUNBUFFERED": "1", "LFOMBENCH_CODE": "1"}}
        return str(client(address).submit_job(entrypoint=shlex.join(command), runtime_env=environment))


def follow(job: str, address: str) -> Iterator[str]:
    """Yield the job's log as it grows, until the job ends."""
    logs = client(address).tail_job_logs(job)
    loop = asyncio.new_event_loop()
    try:
        while True:
            try:
                yield loop.run_until_complete(anext(logs))
            except StopAsyncIteration:
                return
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def log(job: str, address: str) -> str:
    """The job's log so far."""
    return str(_known(job, address).get_job_logs(job))


def stop(job: str, address: str) -> None:
    """Stop a job. What it committed stays; submitting the sweep again continues from there."""
    _known(job, address).stop_job(job)


def status(job: str, address: str) -> str:
    """The job's status: PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED."""
    return str(_known(job, address).get_job_status(job).value)


def client(address: str) -> Any:
    """A connection to the cluster's Jobs API, such as http://head:8265."""
    try:
        parts = urlsplit(address)
        is_sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port or an address that is none
        is_sound = False
    if not is_sound:
        raise UserError(f"--address {address}: must be the address of Ray's dashboard, such as http://head:8265")
    reachable(f"{parts.hostname}:{parts.port or 8265}")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    from ray.job_submission import JobSubmissionClient

    try:
        return JobSubmissionClient(address)
    except (ConnectionError, RuntimeError) as error:
        raise UserError(f"--address {address}: no Ray Jobs API answers there: {error}") from error


def _known(job: str, address: str) -> Any:
    jobs_api = client(address)
    names = [details.submission_id for details in jobs_api.list_jobs()]
    if job not in names:
        raise UserError(f"no job {job!r} on {address}; it knows {', '.join(filter(None, names)) or 'none'}")
    return jobs_api
