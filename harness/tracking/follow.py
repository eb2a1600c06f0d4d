"""Keep a view equal to a store while a sweep runs: at low priority, in a process of its own.

The driver writes on its standard input: where the store and the view are, and later `finish` or `stop`. It answers with
lines of JSON. It never takes more than a small share of the time, and ends with the driver, however that ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from ..errors import UserError
from ..store.filesystem import place
from ..store.lease import Held
from ..store.snapshots import latest
from .opened import alone, identity, open_view, silent
from .sync import Stopped, Told, Work, sync
from .uris import Where
from .view import Unreachable

FIRST, SHARE = 5.0, 100  # seconds between two reconciliations, at least, and as a multiple of what the last one took
LAST = 30.0  # seconds for which a server that does not answer is waited for once the sweep has ended
NICE = 15
COMMAND = [sys.executable, "-P", "-m", "lfombench.harness.tracking.follow"]


class Follower:
    """The process, as the driver sees it."""

    def __init__(self, out: str, where: Where) -> None:
        self.where, self.error = where, None  # type: tuple[Where, str | None]
        self.refused: dict[str, str] = {}
        self.written = self.to_write = 0
        self.left: float | None = None
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  # a pipe that nobody reads would hold it up
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            COMMAND, stdin=pipe, stdout=pipe, stderr=self.errors, text=True, start_new_session=True
        )  # Ctrl-C is the driver's
        self.say(json.dumps({"out": out, "where": asdict(where)}))
        self.thread = threading.Thread(target=self._listen, name="mlflow", daemon=True)
        self.thread.start()

    def say(self, word: str) -> None:
        """Send a line, unless the process has ended."""
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError, ValueError):
            self.process.stdin.write(f"{word}\n")
            self.process.stdin.flush()

    def finish(self, tell: Callable[[Follower], None]) -> None:
        """Wait until everything that is committed now is shown. tell: called every half a second."""
        self.say("finish")
        while self.thread.is_alive():
            self.thread.join(0.5)
            tell(self)
        self._end()

    def stop(self) -> None:
        """Let it end after its transaction; the next run goes on from there."""
        self.say("stop")
        self.thread.join()
        self._end()

    def _end(self) -> None:
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()

    def _listen(self) -> None:
        assert self.process.stdout
        with self.process.stdout, self.errors:
            for line in self.process.stdout:
                for name, value in json.loads(line).items():
                    setattr(self, name, value)
            self.errors.seek(0)
            said = self.errors.read().strip().splitlines()
        if self.process.wait() and not self.error:
            self.error = f"its process ended: {said[-1] if said else f'exit code {self.process.returncode}'}"


class _Process:
    """The process itself."""

    def __init__(self) -> None:
        asked = json.loads(sys.stdin.readline())
        self.out, self.where = asked["out"], Where(**asked["where"])
        self.word, self.heard = "", threading.Event()
        self.last = time.monotonic()  # when a server answered, or the sweep ended
        threading.Thread(target=self._hear, daemon=True).start()

    def _hear(self) -> None:
        for line in sys.stdin:
            self.last = time.monotonic()
            self.word = line.strip()
            self.heard.set()
            if self.word == "stop":
                return
        self.word = self.word or "stop"  # the driver is dead
        self.heard.set()

    def run(self) -> None:
        """Reconcile again and again, until the driver has enough."""
        at, tries, seen = place(self.out), 0, -1
        told = Told(self._progress, self._waiting, self._has_enough)
        store = identity(at)
        while self.word != "stop":
            last_time, number = self.word == "finish", latest(at).number
            if number == seen and not last_time:  # nothing was committed
                self._pause(FIRST)
                continue
            try:
                with alone(at, self.where, silent, self._has_enough):
                    view = open_view(self.where, store, silent)
                    begin = time.process_time()
                    try:
                        self._progress(sync(at, store, view, told))
                    finally:
                        view.close()
                tell(error=None)
                seen = number
                if last_time:
                    return
                pause = max(FIRST, SHARE * (time.process_time() - begin))
            except Stopped:
                return
            except Held as error:
                tell(error=str(error))
                return
            except Unreachable as error:
                tries += 1
                tell(error=str(error))
                if self._has_enough() or last_time:
                    return
                pause = min(60.0, FIRST * tries)
            self._pause(pause)

    def _pause(self, seconds: float) -> None:
        """Wait, unless there is a word from the driver."""
        self.heard.wait(seconds)
        self.heard.clear()

    def _has_enough(self) -> bool:
        return self.word == "stop" or (self.word == "finish" and time.monotonic() - self.last > LAST)

    def _progress(self, work: Work) -> None:
        self.last = time.monotonic()
        tell(written=work.written, to_write=work.to_write, left=work.left, refused=work.refused)

    def _waiting(self, why: str) -> None:
        tell(error=why)


def tell(**fields: Any) -> None:
    """Send a line to the driver."""
    print(json.dumps(fields), flush=True)


def main() -> None:
    """Run the process."""
    os.nice(NICE)
    process = _Process()
    try:
        process.run()
    except UserError as error:
        tell(error=str(error))
    except BrokenPipeError:  # the driver is dead
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
