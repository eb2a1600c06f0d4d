"""A real browser, without a window."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

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


def dom(address: str, folder: Path, seconds: float = 3, width: int = 1500, height: int = 900) -> str:
    """A page as the browser has it after so many seconds of its own time."""
    assert CHROMIUM
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'profile'}", f"--window-size={width},{height}"]
    command += [f"--virtual-time-budget={int(1000 * seconds)}", "--dump-dom", address]
    return subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
