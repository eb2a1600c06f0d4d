"""A disk that several machines share, and that shows them each other's changes late: sshfs, mounted twice.

Each mount keeps what it has seen of folders and files for some seconds, as NFS and others do. Nothing that another
machine commits meanwhile may be lost, taken for damage, or for the work of a driver that has died.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lfombench.harness.store import maintenance, tables
from lfombench.harness.store.drivers import Pace
from lfombench.harness.store.lease import Held, take
from lfombench.harness.store.manifest import Manifest, path_of
from lfombench.harness.store.store import Store
from lfombench.solvers import ConjugateGradient
from tests.builders import pack, run

SERVERS = ("/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server")
SERVER = next(filter(os.path.exists, SERVERS), None)
LATE = 2  # seconds for which a machine believes what it has seen; sshfs alone takes 20
QUICK = Pace(beat=0.05, patience=0.6)

needed = pytest.mark.skipif(
    not (shutil.which("sshfs") and SERVER and os.access("/dev/fuse", os.W_OK)),
    reason="needs sshfs, an SFTP server and a user who may use /dev/fuse: apt-get install sshfs openssh-sftp-server",
)


@contextlib.contextmanager
def mounted(disk: Path, at: Path) -> Iterator[Path]:
    """A folder as a machine sees it that shares it by sshfs."""
    at.mkdir()
    ours, theirs = socket.socketpair()
    options = f"passive,dcache_timeout={LATE}"
    command = ["sshfs", f":{disk}", str(at), "-f", "-o", options]
    server = subprocess.Popen([str(SERVER)], stdin=theirs.fileno(), stdout=theirs.fileno())
    client = subprocess.Popen(command, stdin=ours.fileno(), stdout=ours.fileno())
    ours.close()
    theirs.close()
    try:
        deadline = time.monotonic() + 20
        while not os.path.ismount(at):
            assert client.poll() is None, "sshfs has ended"
            assert time.monotonic() < deadline, "sshfs did not mount the folder"
            time.sleep(0.02)
        yield at
    finally:
        client.terminate()
        client.wait(20)
        server.wait(20)


@pytest.fixture
def disks(tmp_path) -> Iterator[tuple[str, str]]:
    """One store, as two machines see it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    with mounted(disk, tmp_path / "one") as one, mounted(disk, tmp_path / "two") as two:
        Store(str(one / "out")).create()
        yield str(one / "out"), str(two / "out")


def commit(store: Store, seeds: range) -> None:
    for seed in seeds:
        store.commit([run(pack([seed], ConjugateGradient(depth=1)))])


def looked_at(out: str) -> Store:
    """A store of which this machine has just seen every folder."""
    for folder, *_ in os.walk(out):
        os.listdir(folder)
    return Store(out)


def jobs(out: str) -> int:
    return tables.read(Store(out).place, "results", lambda rows: len(rows.read(["job"])["job"].unique()))


@needed
def test_readers_see_what_was_committed_last_and_take_nothing_for_damaged(disks):
    one, two = disks
    store = Store(one)
    commit(store, range(2))
    looked_at(two)
    commit(store, range(2, 5))
    assert jobs(two) == 5
    store.swap({}, {})  # nothing changes but the number
    assert maintenance.rewrite(store, "results", store.snapshot.files["results"], lambda rows: rows)
    assert jobs(two) == 5, "all of them are in another file now"
    commit(store, range(5, 17))
    assert jobs(two) == 17, "the snapshots that this machine knows of are gone"


@needed
@pytest.mark.parametrize("look", [looked_at, lambda out: os.listdir(f"{out}/log")], ids=["all", "log"])
def test_a_driver_that_comes_later_loses_nothing(disks, look):
    """Neither by what it deletes as never committed, nor by what it finds damaged, nor as wanted by no sweep."""
    one, two = disks
    store = Store(one)
    commit(store, range(2))
    look(two)
    commit(store, range(2, 5))
    store.write(path_of("new"), Manifest(name="new", jobs=sorted(read_jobs(one))).content)
    later = Store(two)
    with take(later.place, "later"):
        later.create()
        later.remove_uncommitted()
        assert maintenance.repair(later) == []
        assert maintenance.unwanted(later) == set()
    assert jobs(one) == jobs(two) == 5


def read_jobs(out: str) -> set[str]:
    return tables.read(Store(out).place, "results", lambda rows: set(rows.read(["job"])["job"].to_pylist()))


@needed
@pytest.mark.parametrize("seen", [True, False])
def test_a_driver_that_works_there_is_found(disks, seen):
    """Whether this machine may see its process or not, and whatever its number."""
    one, two = disks
    with contextlib.ExitStack() as first:
        first.enter_context(take(Store(one).place, "fig1", pace=QUICK)).thread.join(2 * QUICK.beat)
        first.close()
        looked_at(two)
        first.enter_context(take(Store(one).place, "fig1", pace=QUICK))
        with take(Store(one).place, "fig2", lambda: {"seconds": 10.0 ** random.randint(0, 300)}, join=True) as held:
            held.pace = QUICK
            first.close()
            if not seen:
                held.driver = replace(held.driver, machine="another")
            held.hurry()
            time.sleep(4 * QUICK.beat)
            with pytest.raises(Held, match="fig2"):
                take(Store(two).place, "fig3", pace=QUICK)
            time.sleep(2 * QUICK.patience)
            assert not held.lost
