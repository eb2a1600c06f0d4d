"""Who works on a store: one at a time; the dead do not count, whatever the clock says."""

from __future__ import annotations

import json
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from lfombench.harness import load, run
from lfombench.harness.store import drivers as files
from lfombench.harness.store.drivers import Pace, alive, content_of, drivers
from lfombench.harness.store.filesystem import place
from lfombench.harness.store.lease import Held, take
from tests import machine


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


COMPANY = """\
import sys, time
from lfombench.harness.store import drivers
from lfombench.harness.store.filesystem import place
from lfombench.harness.store.lease import take

drivers.this_machine = lambda: sys.argv[2]  # so that only beats tell whether the other one lives
with take(place(sys.argv[1]), "fig1", dict, join=True, pace=drivers.Pace(beat=0.05, patience=0.6)) as held:
    while not held.others:
        time.sleep(0.01)
    print("together", flush=True)
    for line in sys.stdin:
        print(held.lost or len(held.others), flush=True)
"""


def test_drivers_that_were_asleep_do_not_take_each_other_for_dead(here):
    """A laptop that is closed, containers that are paused: both were away, and none saw the other silent."""
    start = [sys.executable, "-c", COMPANY, here.root]
    pipe = subprocess.PIPE
    both = [subprocess.Popen([*start, name], stdin=pipe, stdout=pipe, text=True) for name in ("one", "two")]
    try:
        assert [one.stdout.readline() for one in both] == ["together\n"] * 2
        for _ in range(2):
            for one in both:
                one.send_signal(signal.SIGSTOP)
            time.sleep(1)
            for one in both:  # one is back a little earlier
                one.send_signal(signal.SIGCONT)
                time.sleep(0.2)
            for one in both:
                one.stdin.write("\n")
                one.stdin.flush()
            assert [one.stdout.readline() for one in both] == ["1\n"] * 2
    finally:
        for one in both:
            one.kill()
            one.communicate()


def test_one_that_watches_and_is_stopped_meanwhile_goes_on_watching():
    """It has seen nothing of what the other one did in that time."""
    looks = iter([0, 0, 0, 1])

    def look() -> int:
        time.sleep(0.5)
        return next(looks)

    assert files.watched(look, 0, "another", print, Pace(beat=0.05, patience=0.6))


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


# What cannot be seen.


@machine.users_needed()
@pytest.mark.skipif(tuple(map(int, platform.release().split(".")[:2])) < (5, 8), reason="hidepid is the system's there")
def test_a_driver_of_another_user_that_is_hidden_is_watched_and_not_taken_for_dead():
    """As where /proc shows everyone his own processes only. What has ended is known at once, hidden or not."""
    code = (
        "import sys\n"
        "from lfombench.harness.store import lease\n"
        "from lfombench.harness.store.filesystem import place\n"
        "try: lease.take(place(sys.argv[1]), 'fig2', dict, print, pace=lease.Pace(0.05, 3.0)).__enter__()\n"
        "except lease.Held as error: print(error)\n"
        "else: print('taken')\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        store = place(f"{folder}/out")

        def other() -> str:
            done = machine.elsewhere(
                [sys.executable, "-c", code, f"{folder}/out"],
                mounts=["mount -t proc -o hidepid=2 proc /proc"],
                user=machine.NOBODY,
            )
            assert done.returncode == 0, done.stderr
            return done.stdout.splitlines()[-1]

        with take(store, "fig1", dict, pace=Pace(0.05, 3.0)):
            os.chmod(f"{folder}/out/drivers", 0o777)
            assert f"is in use: sweep fig1 on {socket.gethostname()}, process {os.getpid()}" in other()
            assert len(drivers(store)) == 1
        ended = subprocess.Popen(["true"])
        ended.wait()
        lease = take(store, "fig1", dict)  # which beats no more
        store.put(f"drivers/{lease.driver.number:08d}.json", content_of(replace(lease.driver, pid=ended.pid)))
        begin = time.monotonic()
        assert other() == "taken"
        assert time.monotonic() - begin < 3.0


def test_without_proc_only_beats_tell(here, monkeypatch):
    """As on macOS: processes of one number follow each other, and machines may share a name."""
    monkeypatch.setattr(files, "this_machine", lambda: "")
    monkeypatch.setattr(files, "began", lambda pid: None)
    with take(here, "fig1", dict, pace=QUICK), pytest.raises(Held):
        take(here, "fig2", dict, print, pace=QUICK)
    dead = take(here, "fig1", dict)
    begin = time.monotonic()
    with take(here, "fig2", dict, print, pace=QUICK) as lease:
        assert time.monotonic() - begin >= QUICK.patience
        assert [driver.number for driver in drivers(here)] == [lease.driver.number] != [dead.driver.number]


@pytest.mark.parametrize(
    "content",
    [b"", b'{"host": "no', b'{"host": 1}', b"\xff\x00", b"[" * 9999],
    ids=["empty", "cut off", "of another kind", "no text", "nested too deeply"],
)
def test_a_file_that_is_no_lease_is_swept_up(here, content):
    """Whether a driver begins or goes on; not what nobody but the user can have put there."""
    here.put("drivers/00000003.json", content)
    here.put("drivers/notes.txt", b"mine")
    with take(here, "fig1", dict, pace=QUICK) as lease:
        assert here.names("drivers") == [f"{lease.driver.number:08d}.json", "notes.txt"]
        here.put("drivers/00000009.json", content)
        deadline = time.monotonic() + 10
        while here.read("drivers/00000009.json") is not None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert here.names("drivers") == [f"{lease.driver.number:08d}.json", "notes.txt"]
        assert not lease.lost


def test_a_driver_of_another_version_that_beats_is_left_alone(here):
    over = threading.Event()

    def beat() -> None:
        count = 0
        while not over.wait(0.05):
            count += 1
            here.put("drivers/00000003.json", f'{{"format": 9, "beat": {count}}}'.encode())

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        while here.read("drivers/00000003.json") is None:
            time.sleep(0.01)
        for join in (False, True):
            with pytest.raises(Held, match="in use by another version of lfombench"):
                take(here, "fig1", dict, pace=QUICK, join=join)
        assert here.read("drivers/00000003.json") is not None
    finally:
        over.set()
        thread.join()
