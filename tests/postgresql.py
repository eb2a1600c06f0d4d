"""A PostgreSQL server of one's own, from the binaries of this machine."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

import pytest

PASSWORD = "p@ss w:rd/1"
ROOTS = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True), Path(shutil.which("initdb") or "/x").parent]
BINARIES = next((root for root in ROOTS if (root / "initdb").exists()), None)


def needed() -> pytest.MarkDecorator:
    """A mark: skipped, with the reason, where PostgreSQL is not installed."""
    return pytest.mark.skipif(
        BINARIES is None, reason="PostgreSQL is not installed on this machine: its view is not tried"
    )


class PostgreSQL:
    """The server, in a temporary folder."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="lfombench-pg-"))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name  # it never runs as root
        (self.folder / "password").write_text(PASSWORD)
        if os.geteuid() == 0:
            entry = pwd.getpwnam(self.user)
            for path in (self.folder, self.folder / "password"):
                os.chown(path, entry.pw_uid, entry.pw_gid)
        options = ["-U", "lfom", "-A", "scram-sha-256", "--pwfile", str(self.folder / "password"), "--no-sync"]
        self._run("initdb", "-D", str(self.folder / "data"), *options)

    def _words(self, name: str, *words: str) -> list[str]:
        assert BINARIES
        before = ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups"]
        return [*(before if os.geteuid() == 0 else []), str(BINARIES / name), *words]

    def _run(self, name: str, *words: str) -> None:
        done = subprocess.run(self._words(name, *words), capture_output=True, text=True, cwd=self.folder)
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = {"port": self.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": self.folder}
        settings |= {"fsync": "off", "synchronous_commit": "off"}
        options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        self.log = open(self.folder / "log", "ab")  # noqa: SIM115
        words = self._words("postgres", "-D", str(self.folder / "data"), *options)
        self.process = subprocess.Popen(words, stdout=self.log, stderr=self.log, cwd=self.folder)
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                if b"ready to accept connections" in (self.folder / "log").read_bytes().splitlines()[-1]:
                    return
            time.sleep(0.1)
        raise AssertionError((self.folder / "log").read_text())

    def stop(self) -> None:
        """End it at once."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait()
        self.log.close()

    def uri(self, name: str, scheme: str = "postgresql", password: str = PASSWORD) -> str:
        """The URI of a database."""
        return f"{scheme}://lfom:{quote(password, safe='')}@127.0.0.1:{self.port}/{name}"

    def execute(self, sql: str, name: str = "postgres") -> list[tuple]:
        """What a statement gives."""
        import psycopg2

        connection = psycopg2.connect(self.uri(name))
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def __enter__(self) -> PostgreSQL:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
