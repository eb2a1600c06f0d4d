"""A signal that Python drops still ends a command."""

from __future__ import annotations

import subprocess
import sys

DROPPED = """
import os, signal, weakref
from lfombench.harness.signals import interrupted, listen

class Thing: pass

listen(signal.SIGTERM)
thing = Thing()
watch = weakref.ref(thing, lambda _: os.kill(os.getpid(), signal.SIGTERM))
try:
    del thing  # the signal arrives in the callback, and what it raises there is dropped
except KeyboardInterrupt:
    print("raised at once")
try:
    interrupted()
except KeyboardInterrupt:
    print("raised again")
"""


def test_an_interrupt_that_is_dropped_in_a_callback_is_raised_again():
    done = subprocess.run([sys.executable, "-c", DROPPED], capture_output=True, text=True, timeout=60)
    assert done.stdout == "raised again\n"
    assert done.stderr == ""
