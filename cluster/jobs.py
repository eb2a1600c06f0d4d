"""Sweeps on a cluster, through Ray Jobs: the cluster runs the same `lfombench run` as a laptop."""

from __future__ import annotations

import asyncio
import itertools
import shlex
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lfombench.harness.errors import UserError
from lfombench.harness.redact import has_secret

from .client import Unreachable, client, known, told
from .parcel import ENVIRONMENT, Contents, environment, pack

ENDED = {"SUCCEEDED": 0, "FAILED": 1, "STOPPED": 3}
AGAIN = 2.0  # seconds until a connection is tried again
GRACE = 30.0  # seconds that a job which is stopped is given to end
PATIENCE = 600.0  # seconds without an answer after which the log is followed no longer


@dataclass(frozen=True)
class Job:
    """A job of the cluster's: a sweep, or somebody else's. Times are in UTC."""

    name: str
    status: str  # PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED
    sweep: str  # empty where lfombench has not submitted it
    out: str
    started: str
    ended: str
    message: str


def submit(
    sweep: str,
    *,
    address: str,
    out: str,
    code: str | None = None,
    name: str | None = None,
    env: Iterable[str] = (),
    env_file: str | None = None,
    wheel: bool = False,
    options: Sequence[str] = (),
    tell: Callable[[str], None] = lambda text: None,
) -> str:
    """Start a sweep on the cluster, and return the name of its job.

    sweep: a file on this machine, or a shipped sweep. out: a folder that every node shares, or an object store. code: a
    folder with your own tasks and solvers, which is sent along. name: of the job; by default the sweep's, and the time.
    env: variables whose values here the job gets; env_file: a file with others. wheel: send this lfombench along, for
    nodes that have none, or another one; what it needs they must have. options: passed on to `lfombench run`.
    tell: is told what goes along.
    """
    _secretless("--out", out, "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    if "://" not in out and not Path(out).expanduser().is_absolute():
        raise UserError(
            f"--out {out}: on a cluster a store is in a folder that all nodes share, with its whole path, or at "
            "s3://bucket/prefix; a path relative to the job's own folder goes when the job ends"
        )
    for option, value in itertools.pairwise(options):
        if option == "--mlflow":
            _secretless(option, value, "MLFLOW_TRACKING_URI")
    variables, jobs_api = environment(env, env_file), client(address)
    with tempfile.TemporaryDirectory() as folder:
        packed, contents = pack(Path(folder), sweep, code, variables, wheel)
        if code:
            tell(_said(code, contents))
        command = ["python", "-m", "lfombench", "run", packed, "--address", "auto", "--out", out, *options]
        plain = {"PYTHONUNBUFFERED": "1", "LFOMBENCH_CODE": "1", "LFOMBENCH_ENVIRONMENT": ENVIRONMENT}
        with told(address):
            taken = {details.submission_id for details in jobs_api.list_jobs() if details.submission_id}
            if name in taken:
                raise UserError(f"--name {name}: the cluster has a job of that name; leave it out, or give another")
            return str(
                jobs_api.submit_job(
                    entrypoint=shlex.join(command),
                    submission_id=name or _name(Path(packed).stem, taken),
                    runtime_env={"working_dir": folder, "env_vars": plain},
                    metadata={"sweep": Path(packed).stem, "out": out},
                )
            )


def jobs(address: str) -> list[Job]:
    """The cluster's jobs, the latest first."""
    jobs_api = client(address)
    with told(address):
        found = [details for details in jobs_api.list_jobs() if details.submission_id]
    return [_job(details) for details in sorted(found, key=lambda one: one.start_time or 0, reverse=True)]


def follow(job: str, address: str, tell: Callable[[str], None] = lambda text: None) -> Iterator[str]:
    """Yield the job's log as it grows, until the job ends. A connection that breaks is made again, and nothing is
    shown twice; `Unreachable` where the cluster does not answer for ten minutes. tell: is told of that.
    """
    known(job, address)
    shown, since = 0, time.monotonic()
    while True:
        try:
            seen = 0
            for text in _tail(job, address):
                new = text[max(0, shown - seen) :]
                seen += len(text)
                since = time.monotonic()
                if new:
                    shown = seen
                    yield new
            if status(job, address) in ENDED:
                return
        except Unreachable as error:
            if time.monotonic() - since > PATIENCE:
                raise
            tell(f"{error}; trying again")
        time.sleep(AGAIN)


def log(job: str, address: str) -> str:
    """The job's log so far."""
    jobs_api = known(job, address)
    with told(address):
        return str(jobs_api.get_job_logs(job))


def stop(job: str, address: str) -> None:
    """Stop a job. What it committed stays; submitting the sweep again continues from there."""
    jobs_api = known(job, address)
    with told(address):
        jobs_api.stop_job(job)


def withdraw(job: str, address: str) -> None:
    """Stop a job that should not have been submitted, and let the cluster forget it."""
    jobs_api = known(job, address)
    with told(address):
        jobs_api.stop_job(job)
        begun = time.monotonic()
        while jobs_api.get_job_status(job).value not in ENDED and time.monotonic() - begun < GRACE:
            time.sleep(0.2)
        jobs_api.delete_job(job)


def status(job: str, address: str) -> str:
    """The job's status: PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED."""
    jobs_api = known(job, address)
    with told(address):
        return str(jobs_api.get_job_status(job).value)


def _tail(job: str, address: str) -> Iterator[str]:
    """The log from its beginning, until the job ends or the connection does."""
    import aiohttp

    jobs_api = client(address)
    logs, loop = jobs_api.tail_job_logs(job), asyncio.new_event_loop()
    try:
        while True:
            try:
                with told(address):
                    text = loop.run_until_complete(anext(logs))
            except StopAsyncIteration:
                return
            except (aiohttp.ClientError, UserError) as error:  # WebSocket errors among them
                raise Unreachable(f"--address {address}: the log of {job} breaks off: {error}") from error
            yield text
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def _job(details: Any) -> Job:
    metadata: Mapping[str, str] = details.metadata or {}
    return Job(
        details.submission_id,
        str(getattr(details.status, "value", details.status)),
        metadata.get("sweep", ""),
        metadata.get("out", ""),
        _time(details.start_time),
        _time(details.end_time),
        (details.message or "").strip(),
    )


def _time(milliseconds: int | None) -> str:
    if not milliseconds:
        return ""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _name(sweep: str, taken: set[str]) -> str:
    """A name for a job of a sweep: fig1-2026-11-29-0815, and a number where there is one of that minute."""
    begun = f"{sweep}-{datetime.now(UTC):%Y-%m-%d-%H%M}"
    name, number = begun, 1
    while name in taken:
        number += 1
        name = f"{begun}-{number}"
    return name


def _said(code: str, contents: Contents) -> str:
    return f"{code}: {contents.files} files, {contents.bytes / 1e6:.1f} MB go along"


def _secretless(option: str, uri: str, variables: str) -> None:
    if has_secret(uri):
        raise UserError(
            f"{option} {uri} has a secret in it, which everybody who sees the cluster's jobs could read. Give it in "
            f"the environment: {variables} by --env NAME or --env-file FILE; or give the nodes a role that may do it"
        )
