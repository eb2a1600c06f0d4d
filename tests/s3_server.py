"""Moto's server of S3, one PUT at a time: it looks whether a key is taken and then writes, S3 does both at once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from threading import Lock
from typing import Any

from moto.server import DomainDispatcherApplication, create_backend_app  # type: ignore[attr-defined]
from werkzeug.serving import run_simple

S3 = DomainDispatcherApplication(create_backend_app)
PUTS = Lock()


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """A WSGI application."""
    if environ["REQUEST_METHOD"] != "PUT":
        return S3(environ, start_response)
    with PUTS:
        return S3(environ, start_response)


if __name__ == "__main__":
    run_simple("127.0.0.1", int(sys.argv[1]), application, threaded=True)
