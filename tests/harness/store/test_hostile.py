"""A store from somebody else, or from an accident: nothing outside its folder is read, written or deleted."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from lfombench.harness.errors import UserError
from lfombench.harness.store.filesystem import place
from lfombench.harness.store.manifest import Damaged, manifests
from tests.builders import CLOSED, SMALL
from tests.commands import lfombench


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder of somebody's, with files that have the names of a store's."""
    folder = tmp_path / "outside"
    folder.mkdir()
    names = (
        "a0.safetensors",
        "00000001.json",
        "00000009-abcdef0.parquet",
        "small.json",
        ".writing-0123456789ab-x",
        "x",
    )
    for name in names:
        (folder / name).write_bytes(b"mine")
    return folder


@pytest.fixture
def store(finished: str, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "out")
    (tmp_path / "small.yaml").write_text(SMALL)
    return tmp_path / "out"


def lead(store: Path, name: str, to: Path) -> None:
    """Put a link in the place of something in a store."""
    path = store / name
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    path.symlink_to(to)


def state(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}


RUN, PRUNE, REPORT = ["run", "more.yaml", "--workers", "0", "--mlflow", "off"], ["prune", "--yes"], ["report"]


@pytest.mark.parametrize(
    ("folder", "command"),
    [
        *(("checkpoints", RUN), ("results", RUN), ("drivers", RUN), ("sweeps", RUN), ("log", RUN), ("stale", PRUNE)),
        *(("report", REPORT), ("artifacts", ["mlflow", "rebuild"]), ("mlflow", ["mlflow", "sync"])),
    ],
)
def test_a_folder_that_is_a_link_is_named_and_what_it_leads_to_stays(store, outside, folder, command, monkeypatch):
    """A run deleted what `checkpoints` led to."""
    before = state(outside)
    lead(store, folder, outside)
    monkeypatch.chdir(store.parent)
    Path("more.yaml").write_text(CLOSED)
    done = lfombench(*command, "--out", str(store))
    assert state(outside) == before
    assert f"{store}/{folder} is a link" in done.stderr + done.stdout, done
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("file", ["mlflow.db", "mlflow.db-wal", "mlflow.db-journal"])
def test_a_database_that_is_a_link_is_not_written_to(store, outside, file):
    before = state(outside)
    lead(store, file, outside / "x")
    done = lfombench("mlflow", "rebuild", "--out", str(store))
    assert done.returncode == 1
    assert f"{store}/{file} is a link" in done.stderr
    assert state(outside) == before


def test_a_file_that_is_a_link_is_none_of_the_stores(store, outside):
    """Those that it lacks so are made again, in its own folder."""
    before = state(outside)
    data = next((store / "results").glob("*.parquet"))
    for name in (f"results/{data.name}", "store.json", "widths.json", "checkpoints/a0.safetensors"):
        (store / name).parent.mkdir(exist_ok=True)
        lead(store, name, outside / "x")
    options = ("--workers", "0", "--mlflow", "off", "--out", str(store))
    done = lfombench("run", str(store.parent / "small.yaml"), *options)
    assert done.returncode == 0, done.stderr
    assert state(outside) == before
    assert not (store / "store.json").is_symlink()


def test_a_pipe_in_a_store_holds_up_nobody(store):
    os.mkfifo(store / "sweeps" / "pipe.json")
    (store / "widths.json").unlink(missing_ok=True)
    os.mkfifo(store / "widths.json")
    assert place(str(store)).read("widths.json") is None
    assert "pipe.json is damaged" in lfombench("status", "--out", str(store)).stderr


@pytest.mark.parametrize("name", ["../outside/x", "/etc/x", "a/../../outside/x", "..", "log//x", "./x"])
def test_a_name_that_leads_out_is_refused_by_every_operation(store, outside, name):
    """As it may have been read in a store."""
    before, at = state(outside), place(str(store))
    operations = [at.read, at.size, at.delete, at.open, at.within, at.names, lambda n: at.put(n, b"")]
    operations += [lambda n: at.create(n, b""), lambda n: at.move(n, "log/x"), lambda n: at.move("store.json", n)]
    for operation in operations:
        with pytest.raises(UserError, match="lead out of it"):
            operation(name)
    assert state(outside) == before


def test_so_it_is_in_a_bucket():
    at = place("s3://bucket/prefix?endpoint_override=localhost:1&scheme=http")
    for operation in (at.read, at.delete, at.open, lambda n: at.put(n, b"")):
        with pytest.raises(UserError, match="lead out of it"):
            operation("../other/x")


def test_the_folder_that_the_user_names_may_be_a_link(store, tmp_path):
    (tmp_path / "scratch").symlink_to(store)
    options = ("--workers", "0", "--mlflow", "off", "--out", str(tmp_path / "scratch"))
    done = lfombench("run", str(tmp_path / "small.yaml"), *options)
    assert done.returncode == 0, done.stderr


def test_a_manifest_of_another_name_than_its_file_is_damaged(store, tmp_path):
    """`merge` would write it by that name: `../../x`."""
    manifest = store / "sweeps" / "small.json"
    values = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(values | {"name": "../../x"}))
    with pytest.raises(Damaged, match=r"small\.json is damaged"):
        manifests(place(str(store)))
    done = lfombench("merge", str(store), "--out", str(tmp_path / "second"))
    assert done.returncode == 1
    assert not (tmp_path / "x.json").exists()


def test_only_half_written_files_of_its_own_are_swept_away(store, outside):
    """Not those of a name that others might use, nor what a link leads to."""
    (store / "notes").mkdir()
    (store / "notes" / ".writing-plan.txt").write_text("mine")
    (store / "notes" / "linked").symlink_to(outside)
    (store / "results" / ".writing-0123456789ab-x.parquet").write_text("half")
    before = state(outside)
    place(str(store)).sweep()
    assert state(outside) == before
    assert (store / "notes" / ".writing-plan.txt").exists()
    assert not list((store / "results").glob(".writing*"))
