"""A real browser, without a window, that is told what to do through a pipe, in the protocol of its developer tools."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--hide-scrollbars"),
]


def browser_needed(what: str) -> pytest.MarkDecorator:
    """A mark: skipped, with the reason, where there is no browser."""
    reason = f"no chromium on this machine: {what} is not looked at in a browser"
    return pytest.mark.skipif(CHROMIUM is None, reason=reason)


class Browser:
    """A browser with one page."""

    def __init__(self, width: int = 1500, height: int = 900) -> None:
        assert CHROMIUM
        self.profile = tempfile.mkdtemp(prefix="lfombench-chromium-")
        (read, self.write), (self.read, write) = os.pipe(), os.pipe()
        words = [CHROMIUM, *FLAGS, "--remote-debugging-pipe", f"--user-data-dir={self.profile}"]
        script = f'exec "$@" 3<&{read} 4>&{write}'
        self.process = subprocess.Popen(
            ["bash", "-c", script, "bash", *words, f"--window-size={width},{height}"],
            pass_fds=(read, write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in (read, write):
            os.close(end)
        self.answers, self.count, self.session = b"", 0, ""
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait()
        for end in (self.read, self.write):
            os.close(end)
        shutil.rmtree(self.profile, ignore_errors=True)

    def open(self, address: str) -> None:
        """Go to a page; it is not waited for."""
        self._ask("Page.navigate", url=address)

    def evaluate(self, script: str) -> Any:
        """The value of an expression on the page."""
        found = self._ask("Runtime.evaluate", expression=script, returnByValue=True)
        return found["result"].get("value")

    def wait(self, script: str, seconds: float = 60.0) -> Any:
        """The value of an expression as soon as it is true; an error after so many seconds."""
        end = time.monotonic() + seconds
        while not (value := self.evaluate(script)):
            assert time.monotonic() < end, f"{script}: {self.evaluate('document.body.innerText')[:2000]}"
            time.sleep(0.05)
        return value

    def screenshot(self, path: Path) -> None:
        """What the page looks like."""
        path.write_bytes(base64.b64decode(self._ask("Page.captureScreenshot")["data"]))

    def _ask(self, method: str, **params: Any) -> dict[str, Any]:
        self.count += 1
        question = {"id": self.count, "method": method, "params": params}
        if self.session:
            question["sessionId"] = self.session
        os.write(self.write, json.dumps(question).encode() + b"\0")
        while True:
            line, mark, rest = self.answers.partition(b"\0")
            if not mark:
                more = os.read(self.read, 1 << 16)
                assert more, "the browser has ended"
                self.answers += more
                continue
            self.answers = rest
            answer = json.loads(line)
            if answer.get("id") == self.count:
                assert "result" in answer, answer
                found: dict[str, Any] = answer["result"]
                return found
