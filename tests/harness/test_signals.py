"""Signals: before a run they interrupt; in a run the first is noted and the second interrupts."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import os, signal, sys, weakref
from lfombench.harness.signals import Draining, listen

def send():
    os.kill(os.getpid(), signal.SIGTERM)

listen(signal.SIGTERM)
try:
    send()
    print("went on")
except KeyboardInterrupt:
    print("interrupted")
stop = Draining("stopping")
print(stop())
send()
print(stop())
{second}
try:
    stop()
    print("went on")
except KeyboardInterrupt:
    print("interrupted again")
stop.over()
"""
DROPPED = """
class Thing: pass
thing = Thing()
watch = weakref.ref(thing, lambda _: send())
sys.unraisablehook = lambda dropped: None
del thing  # the signal arrives in the callback, and what it raises there is dropped
"""


@pytest.mark.parametrize(
    ("second", "says"), [("", "went on"), (DROPPED, "interrupted again")], ids=["one", "two, one of them dropped"]
)
def test_the_first_is_noted_and_the_second_interrupts(second, says):
    program = PROGRAM.replace("{second}", second)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.split("\n")[:4] == ["interrupted", "False", "True", says], done.stderr
    assert done.stderr.splitlines()[:1] == ["stopping"]


GUARDED = """
import os, signal, sys
from lfombench.harness.signals import guarded, ignore_signals, listen

listen(signal.SIGTERM)
try:
    with guarded():
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))
        {inside}
    print("went on")
    os.kill(os.getpid(), signal.SIGTERM)
except KeyboardInterrupt:
    print("interrupted")
ignore_signals()
os.kill(os.getpid(), signal.SIGTERM)
print("deaf")
"""


@pytest.mark.parametrize(
    ("inside", "says"),
    [("pass", ["went on", "interrupted", "deaf"]), ("os.kill(os.getpid(), 15)", ["interrupted", "deaf"])],
)
def test_handlers_that_others_set_are_put_back_and_what_they_end_is_interrupted(inside, says):
    program = GUARDED.replace("{inside}", inside)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == says, done.stderr
    assert done.returncode == 0
