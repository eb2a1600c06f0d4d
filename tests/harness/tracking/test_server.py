"""Waiting for a server: as long as it works, and no longer."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time

import pytest

from lfombench.harness.errors import UserError
from lfombench.harness.tracking import server

BUSY = """\
import http.server, sys, time
end = time.monotonic() + float(sys.argv[3])
while time.monotonic() < end:
    pass

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(sys.argv[2].encode())

http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
IDLE = "import time; print('before I sleep', flush=True); time.sleep(60)"


@pytest.fixture
def silent(monkeypatch):
    monkeypatch.setattr(server, "SILENT", 1.5)


def waited(script: str, port: int | None = None) -> None:
    port = port or server.free_port(None)
    with tempfile.TemporaryFile() as log:
        command = [sys.executable, "-c", script, str(port), "ours", "4"]
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            server._wait(process, port, "ours", log)
        finally:
            server._stop(process)


def test_one_that_works_is_waited_for(silent):
    """After a minute on a busy machine it was given up."""
    waited(BUSY)


def test_one_that_does_nothing_is_given_up_with_its_last_words(silent):
    with pytest.raises(UserError, match=r"(?s)has done nothing for 2 s and does not answer; .*before I sleep"):
        waited(IDLE)


def test_another_server_that_took_the_port_meanwhile_is_not_taken_for_ours(silent):
    """Two commands at once found the same port free: one of them showed the store of the other."""
    port = server.free_port(None)
    other = subprocess.Popen([sys.executable, "-c", BUSY, str(port), "theirs", "0"])
    try:
        while server._free(port):
            time.sleep(0.05)
        with pytest.raises(UserError, match="has done nothing for 2 s"):
            waited(IDLE, port)
    finally:
        other.kill()
        other.wait()


def test_a_port_that_is_taken_is_named():
    port = server.free_port(None)
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", port))
        taken.listen()
        with pytest.raises(UserError, match=f"--port {port} is taken"):
            server.free_port(port)
        assert server.free_port(None) != port
