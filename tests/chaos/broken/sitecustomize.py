"""Breaks the process that finds this first on its path, as the environment variable BROKEN says.

fsync N SEED: one call in N fails as on a full disk. clock HOURS SECONDS: the clock steps so far after so long.
"""

import datetime as module
import os
import random
import time

kind, *numbers = os.environ["BROKEN"].split()

if kind == "fsync":
    real, chance = os.fsync, random.Random(int(numbers[1]))

    def fsync(handle):
        if chance.random() < 1 / int(numbers[0]):
            raise OSError(28, "No space left on device")
        real(handle)

    os.fsync = fsync

if kind == "clock":
    begin, now, first = time.monotonic(), time.time, module.datetime
    step, after = 3600 * float(numbers[0]), float(numbers[1])

    def offset():
        return step if time.monotonic() - begin > after else 0.0

    class Stepped(first):
        @classmethod
        def now(cls, tz=None):
            return first.now(tz) + module.timedelta(seconds=offset())

    time.time = lambda: now() + offset()
    module.datetime = Stepped
