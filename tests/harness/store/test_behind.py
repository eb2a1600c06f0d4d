"""Files that are written behind one's back: in order, at most the latest, and never in the way."""

from __future__ import annotations

import threading

import pytest

from lfombench.harness.store.behind import Behind
from lfombench.harness.store.filesystem import place
from lfombench.harness.store.folder import Folder


class Slow(Folder):
    """A folder whose writes wait until they may go on."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.may, self.begun, self.written = threading.Event(), threading.Event(), []

    def put(self, name, content):
        self.begun.set()
        assert self.may.wait(30)
        self.written.append((name, bytes(content)))
        super().put(name, content)


@pytest.fixture
def slow(tmp_path) -> Slow:
    return Slow(str(tmp_path))


def test_who_asks_does_not_wait_and_only_the_latest_is_written(slow):
    """Of a hundred states that come while the first is being written, one more is."""
    behind = Behind(slow)
    behind.put("a", lambda: b"0")
    assert slow.begun.wait(30)
    for i in range(1, 101):
        behind.put("a", lambda i=i: b"%d" % i)
    assert slow.written == []
    slow.may.set()
    assert behind.read("a") == b"100"
    assert slow.written == [("a", b"0"), ("a", b"100")]


def test_what_is_deleted_while_it_is_written_is_gone(slow):
    behind = Behind(slow)
    behind.put("a", lambda: b"1")
    assert slow.begun.wait(30)
    behind.delete("a")
    slow.may.set()
    behind.flush()
    assert slow.read("a") is None


def test_a_file_goes_only_when_what_stands_for_it_is_there(slow):
    """Nor when what stands for it was overtaken by a later state that says nothing of the file."""
    Folder.put(slow, "old", b"0")
    behind = Behind(slow)
    behind.put("new", lambda: b"0")
    assert slow.begun.wait(30)
    behind.put("new", lambda: b"1", ["old"])
    behind.put("new", lambda: b"2")
    assert slow.read("old") == b"0"
    slow.may.set()
    behind.flush()
    assert slow.read("old") is None
    assert slow.read("new") == b"2"


def test_what_cannot_be_written_is_a_warning_and_keeps_what_it_stood_for(tmp_path, caplog):
    """And what is asked next is done."""
    folder = place(str(tmp_path))
    folder.put("old", b"0")
    behind = Behind(folder)

    def full() -> bytes:
        raise OSError("no space left on device")

    behind.put("new", full, ["old"])
    behind.flush()
    assert "new cannot be written: no space left on device" in caplog.text
    assert folder.read("old") == b"0"
    behind.put("new", lambda: b"1")
    assert behind.read("new") == b"1"
