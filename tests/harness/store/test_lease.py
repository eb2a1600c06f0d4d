"""Who works on a store: one at a time; the dead do not count, whatever the clock says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lfombench.harness import load, run
from lfombench.harness.store.filesystem import place
from lfombench.harness.store.lease import Held, Pace, alive, drivers, take


@pytest.fixture
def here(tmp_path):
    return place(str(tmp_path / "out"))


QUICK = Pace(beat=0.05, patience=0.6)


def test_the_second_driver_is_told_who_is_there(here):
    told = rf"is in use: sweep fig1 on .*, process {os.getpid()}, since 20"
    with take(here, "fig1", dict), pytest.raises(Held, match=told):
        take(here, "fig2", dict)
    assert drivers(here) == []
    with take(here, "fig2", dict):
        assert [driver.sweep for driver in drivers(here)] == ["fig2"]


def test_it_beats_and_tells_of_its_progress(here):
    told = {"ran": 0}
    with take(here, "fig1", lambda: told, pace=QUICK):
        told["ran"] = 7
        deadline = time.monotonic() + 10
        while drivers(here)[0].beat < 3 and time.monotonic() < deadline:
            time.sleep(0.02)
        [driver] = drivers(here)
        assert driver.progress == {"ran": 7}
        assert alive(here, driver, pace=QUICK)


def test_a_driver_that_was_killed_holds_nothing(here, tmp_path):
    """kill -9 of a real one: the next takes over at once, though the file is still there."""
    program = (
        "import sys, time\n"
        "from lfombench.harness.store.lease import take\n"
        "from lfombench.harness.store.filesystem import place\n"
        f"lease = take(place({str(tmp_path / 'out')!r}), 'fig1', dict)\n"
        "lease.__enter__()\nprint('there', flush=True)\ntime.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "there\n"
    with pytest.raises(Held, match=f"process {process.pid}"):
        take(here, "fig1", dict)
    process.kill()
    process.wait(10)
    process.stdout.close()
    assert [driver.pid for driver in drivers(here)] == [process.pid]
    begin = time.monotonic()
    with take(here, "fig1", dict):
        assert time.monotonic() - begin < 2
        assert [driver.pid for driver in drivers(here)] == [os.getpid()]


def elsewhere(here, **changes) -> dict:
    """A driver's file as another machine would leave it."""
    with take(here, "fig1", dict):
        [name] = here.names("drivers")
        found = json.loads(here.read(f"drivers/{name}"))
    found |= {"machine": "another", "host": "another"} | changes
    here.put(f"drivers/{name}", json.dumps(found).encode())
    return found


def test_a_driver_elsewhere_counts_as_dead_when_it_does_not_beat(here):
    """Its times may say what they will: a clock that was set wrong, or steps, changes nothing."""
    elsewhere(here, since="2199-01-01 00:00:00 UTC")
    said: list[str] = []
    with take(here, "fig2", dict, said.append, pace=QUICK):
        assert [driver.host for driver in drivers(here)] != ["another"]
    assert said[0].startswith("watching whether another driver is alive: sweep fig1 on another")


def test_a_driver_elsewhere_is_alive_while_it_beats(here):
    found = elsewhere(here, since="1970-01-01 00:00:00 UTC")
    program = (
        "import json, sys, time, pathlib\n"
        f"path, found = pathlib.Path({str(Path(here.root) / 'drivers' / '00000001.json')!r}), json.loads(sys.argv[1])\n"
        "for beat in range(400):\n"
        "    found['beat'] = beat\n"
        "    (path.parent / '.new').write_text(json.dumps(found))\n"
        "    (path.parent / '.new').rename(path)\n"
        "    time.sleep(0.05)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, json.dumps(found)])
    try:
        time.sleep(0.5)
        with pytest.raises(Held, match="on another"):
            take(here, "fig2", dict, pace=QUICK)
    finally:
        process.kill()
        process.wait(10)


def test_one_that_was_taken_for_dead_knows(here):
    with take(here, "fig1", dict, pace=QUICK) as held:
        here.delete("drivers/00000001.json")
        held.thread.join(10)
        assert held.lost


def test_a_run_holds_its_store_and_lets_go(tmp_path, small):
    from lfombench.harness.driver.observer import Silent

    out = str(tmp_path / "out")
    seen = []

    class Second(Silent):
        def committed(self, progress):
            if not seen:
                with pytest.raises(Held) as refused:
                    run(load(str(small)), out, workers=0, mlflow="off")
                seen.append(refused.value.exit_code)

    assert run(load(str(small)), out, workers=0, mlflow="off", observer=Second()).exit_code == 0
    assert seen == [1]
    assert drivers(place(out)) == []
