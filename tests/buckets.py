"""Buckets of three clouds, by real servers on this machine."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import HTTPError

from tests.nodes import free_port

BUILT = Path(__file__).parents[1] / "build/azurite/node_modules/.bin/azurite-blob"
AZURITE = Path(shutil.which("azurite-blob") or BUILT)
ACCOUNT = "devstoreaccount1"  # the one that Azurite knows, with its key, which Microsoft has published
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
BUCKET = "bucket"
SIGNED = "AWS4-HMAC-SHA256 Credential=k/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"


@dataclass(frozen=True)
class Cloud:
    """A server with an empty bucket, and what the environment must say to reach it."""

    scheme: str
    address: str  # http://HOST:PORT
    environment: Mapping[str, str]

    def uri(self, prefix: str) -> str:
        """The URI of a prefix of the bucket."""
        return f"{self.scheme}://{BUCKET}/{prefix}?endpoint_override={self.address.replace(':', '%3A')}"


@contextlib.contextmanager
def s3() -> Iterator[Cloud]:
    """Moto's server of S3."""
    port = free_port()
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
    with _serving([sys.executable, str(Path(__file__).with_name("s3_server.py")), str(port)], port):
        _put(f"http://127.0.0.1:{port}/{BUCKET}")
        yield Cloud("s3", f"http://127.0.0.1:{port}", keys)


@contextlib.contextmanager
def google() -> Iterator[Cloud]:
    """What Google calls its XML interface is S3's with headers of other names: a relay translates them for moto."""
    with s3() as behind:
        relay = ThreadingHTTPServer(("127.0.0.1", 0), Translating)
        relay.behind = behind.address.removeprefix("http://")  # type: ignore[attr-defined]
        threading.Thread(target=relay.serve_forever, daemon=True).start()
        try:
            key = json.dumps({"disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": ""})
            yield Cloud("gs", f"http://127.0.0.1:{relay.server_port}", {"GOOGLE_SERVICE_ACCOUNT_KEY": key})
        finally:
            relay.shutdown()
            relay.server_close()


class Translating(BaseHTTPRequestHandler):
    """Passes a request to Google on to S3, and its answer back."""

    protocol_version = "HTTP/1.1"

    def handle(self) -> None:
        """Requests, until the other side hangs up."""
        self.s3 = HTTPConnection(self.server.behind)  # type: ignore[attr-defined]
        with contextlib.closing(self.s3), contextlib.suppress(ConnectionError):
            super().handle()

    def pass_on(self) -> None:
        """One request."""
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "authorization")}
        headers["Authorization"] = SIGNED
        if headers.pop("x-goog-if-generation-match", None) == "0":
            headers["If-None-Match"] = "*"
        self.s3.request(self.command, self.path, content, headers)
        answer = self.s3.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("content-length", "transfer-encoding", "connection", "server", "date"):
                self.send_header(name, value)
        self.send_header("x-goog-generation", "1")
        self.send_header("Content-Length", answer.getheader("Content-Length") or str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = pass_on

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing."""


@contextlib.contextmanager
def azure() -> Iterator[Cloud]:
    """Azurite, Microsoft's own."""
    port = free_port()
    command = [
        str(AZURITE),
        "--inMemoryPersistence",
        "--silent",
        "--disableTelemetry",
        "--skipApiVersionCheck",
        "--blobPort",
        str(port),
    ]
    environment = {"AZURE_STORAGE_ACCOUNT": ACCOUNT, "AZURE_STORAGE_KEY": KEY}
    with _serving(command, port):
        _make_container(port)
        yield Cloud("az", f"http://127.0.0.1:{port}/{ACCOUNT}", environment)


CLOUDS = {"s3": s3, "gs": google, "az": azure}


def _make_container(port: int) -> None:
    """A request that Azure's protocol wants signed."""
    path, date, version = f"/{ACCOUNT}/{BUCKET}", formatdate(usegmt=True), "2021-08-06"
    signed = "PUT" + "\n" * 12 + f"x-ms-date:{date}\nx-ms-version:{version}\n/{ACCOUNT}{path}\nrestype:container"
    digest = hmac.new(base64.b64decode(KEY), signed.encode(), hashlib.sha256).digest()
    headers = {"x-ms-date": date, "x-ms-version": version, "Content-Length": "0"}
    headers["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}"
    _put(f"http://127.0.0.1:{port}{path}?restype=container", headers)


def _put(url: str, headers: Mapping[str, str] | None = None) -> None:
    with urllib.request.urlopen(urllib.request.Request(url, method="PUT", headers=dict(headers or {}))):
        pass


@contextlib.contextmanager
def _serving(command: list[str], port: int) -> Iterator[None]:
    """While a server runs; it has begun to answer."""
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not _answers(port):
            assert server.poll() is None, command
            assert time.monotonic() < deadline, command
            time.sleep(0.1)
        yield
    finally:
        server.terminate()
        server.wait(10)


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5):
            return True
    except HTTPError:
        return True
    except OSError:
        return False
