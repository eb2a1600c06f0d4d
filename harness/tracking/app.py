"""MLflow's own server, with the report of a store beside it: one address for both. MLflow loads it by its name, as
`mlflow server --app-name lfombench` does.
"""

from __future__ import annotations

import os

from mlflow.server.fastapi_app import app
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from ..store.filesystem import place
from .uris import SERVER, STORE

REPORT = "report/index.html"
NONE = "<p>This store has no report yet: <code>lfombench report</code> writes one.</p>"


def report(request: Request) -> Response:
    """The report as it is in the store now."""
    content = place(os.environ[STORE]).read(REPORT)
    return HTMLResponse(content if content is not None else NONE, 200 if content is not None else 404)


def slash(request: Request) -> Response:
    """The report, without a slash at the end."""
    return RedirectResponse("/report/")


def server(request: Request) -> Response:
    """The name that the server was started under, by which its parent knows it from others on the same port."""
    return Response(os.environ[SERVER])


app.router.routes[:0] = [
    Route("/report/", report),
    Route("/report", slash),
    Route("/report/index.html", slash),
    Route("/report/server", server),
]
