"""A connection to a cluster's Jobs API; and what its failures mean, with what helps."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from lfombench.harness.errors import UserError
from lfombench.harness.scheduler.address import reachable

PORTS = {"http": 80, "https": 443}
TOKEN = "RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH, or ~/.ray/auth_token with the cluster's token"


class Unreachable(UserError):
    """The cluster does not answer; it may do so later."""


def client(address: str) -> Any:
    """A connection to the cluster's Jobs API, such as http://head:8265."""
    try:
        parts = urlsplit(address)
        is_sound = parts.scheme in PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port or an address that is none
        is_sound = False
    if not is_sound:
        raise UserError(f"--address {address}: must be the address of Ray's dashboard, such as http://head:8265")
    at = f"{parts.hostname}:{parts.port or PORTS[parts.scheme]}"
    try:
        reachable(at)
    except UserError as error:
        raise Unreachable(
            f"--address {address}: nothing listens at {at} ({error.__cause__}). Is the head up? Its dashboard has port "
            "8265 if `ray start --dashboard-port` says nothing else; `--dashboard-host=0.0.0.0` lets others reach it"
        ) from error
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with told(address):
        from ray.job_submission import JobSubmissionClient

        return JobSubmissionClient(address.rstrip("/"))


@contextlib.contextmanager
def told(address: str) -> Iterator[None]:
    """Let what goes wrong in a call to the cluster be said in words, with what helps."""
    import requests
    from ray.exceptions import AuthenticationError

    try:
        yield
    except AuthenticationError as error:
        asked = "required" in str(error).partition(":")[0].lower()
        said = "asks for a token, and was given none" if asked else "does not accept the token that it was given"
        raise UserError(f"--address {address}: the cluster {said}. Set {TOKEN}") from None
    except (requests.exceptions.SSLError, requests.exceptions.InvalidSchema) as error:
        raise UserError(f"--address {address}: no encrypted connection: {error}. Does it listen to http://?") from None
    except (OSError, requests.exceptions.RequestException) as error:  # of which ConnectionError is one
        raise Unreachable(f"--address {address}: the cluster does not answer: {error}") from error
    except (RuntimeError, ValueError) as error:
        text = str(error).strip()
        if "status code 5" in text:
            last = text.splitlines()[-1]
            raise Unreachable(f"--address {address}: the cluster's head cannot answer: {last}") from error
        raise UserError(f"--address {address}: the cluster's Jobs API refuses: {text}") from error


def known(job: str, address: str) -> Any:
    """A connection to the cluster that has this job; UserError where it has none of that name."""
    jobs_api = client(address)
    with told(address):
        names = [details.submission_id for details in jobs_api.list_jobs()]
    if job not in names:
        raise UserError(f"no job {job!r} on {address}; it knows {', '.join(filter(None, names)) or 'none'}")
    return jobs_api
