"""Ray where a machine makes it hard: long temporary folders, another user's files, slow starts, little memory."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from lfombench.harness.compiler import cache
from lfombench.harness.scheduler import ray_start
from lfombench.harness.scheduler.ray_start import NoRay, own_folder, start, store_size
from tests.commands import words
from tests.machine import NOBODY, elsewhere, mounts_needed, users_needed, with_memory


def small(folder: Path) -> str:
    """A sweep of four jobs."""
    path = folder / "few.yaml"
    path.write_text(
        "name: few\nprotocol: {use: published, steps: 5, batch: 8, test_prompts: 64}\nseeds: 2\n"
        "tasks: [linear_regression: {d: 2, n: 4}]\n"
        "solvers: [linear_transformer: {preconditioner: {each: [scalar, full]}, depth: 1}]\n"
    )
    return str(path)


def test_a_folder_is_short_enough_for_sockets(monkeypatch, tmp_path):
    """Where the system's temporary folder is not, as Slurm's are, another is taken."""
    long = tmp_path / ("long" * 20)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    folder = own_folder()
    try:
        assert not folder.startswith(str(long))
        assert len(folder) + ray_start.BELOW <= ray_start.SOCKET
        assert not os.listdir(folder)
    finally:
        os.rmdir(folder)


def test_where_there_is_no_such_folder_it_is_said_why(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("long" * 20)))
    monkeypatch.setattr(ray_start, "PARENTS", (str(tmp_path / "none"),))
    monkeypatch.setattr(ray_start, "SOCKET", len(str(tmp_path)) + 100)
    with pytest.raises(NoRay, match=r"too long a path for sockets; .*none: No such file or directory.*Try TMPDIR="):
        own_folder()


def test_what_goes_between_processes_has_no_more_than_half_of_what_they_share(monkeypatch):
    for free, size in ((1 << 40, ray_start.STORE), (300 << 20, 150 << 20), (64 << 20, ray_start.LEAST_STORE)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: type("Usage", (), {"free": free}))
        assert store_size() == size


@pytest.mark.parametrize("error", [Exception("timed out"), PermissionError(13, "denied"), OSError("AF_UNIX too long")])
def test_whatever_ails_ray_it_is_tried_again_and_then_said(monkeypatch, error):
    """Ray raises all of these."""
    import ray

    folders = []

    def init(**options):
        folders.append(options["_temp_dir"])
        raise error

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(NoRay, match=r"Ray cannot start here: .*Try --workers 0.*lfombench doctor"):
        start(1)
    assert len(folders) == ray_start.TRIES
    assert not any(os.path.exists(folder) for folder in folders)


def test_workers_have_the_cache_of_the_driver(monkeypatch, tmp_path, caplog):
    """Also where it is a temporary one; and the driver warns of that, as nobody sees what workers say."""
    import ray

    (tmp_path / "file").write_text("")
    named = str(tmp_path / "file" / "cache")
    monkeypatch.setenv("LFOMBENCH_CACHE", named)
    seen = []
    monkeypatch.setattr(ray, "init", lambda **options: seen.append(os.environ["LFOMBENCH_CACHE"]))
    os.rmdir(start(1))
    assert seen == [str(cache.folder())] != [named]
    assert os.environ["LFOMBENCH_CACHE"] == named
    assert "for this run alone" in caplog.text


@pytest.mark.slow
@users_needed()
@mounts_needed()
def test_a_sweep_runs_beside_another_users_ray_in_a_long_temporary_folder_with_little_shared_memory():
    """Of a user without an entry or a home, in an empty environment, on one core, with 100 MB of temporary space, 64 MB
    of shared memory, 2 GB of memory, and 256 open files at most.
    """
    with tempfile.TemporaryDirectory() as parent:
        os.chmod(parent, 0o755)
        folder, scratch = Path(parent) / ("my scratch ä" * 6), Path(parent) / "scratch"
        for path in (folder, scratch):
            path.mkdir()
            path.chmod(0o777)
        sweep = small(folder)
        done = elsewhere(
            ["taskset", "-c", "0", *words("run", sweep, "--out", str(folder / "out"), "--workers", "1")],
            mounts=[
                *with_memory(2_000_000_000),
                "mount -t tmpfs -o size=64m,mode=1777 tmpfs /dev/shm",
                f"mount -t tmpfs -o size=100m,mode=1777 tmpfs {scratch}",
                f"mkdir -m 700 {scratch}/ray",
            ],
            user=NOBODY,
            environment={"PATH": os.environ["PATH"], "TMPDIR": str(scratch)},
            cwd=folder,
        )
        assert done.returncode == 0, done.stderr
        assert "4 jobs in" in done.stdout
        assert "Going on without it" not in done.stderr, done.stderr
