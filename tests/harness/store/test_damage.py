"""Damage that a store once hung on, was silent about, or took for a fault of ours; each as it was found."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lfombench.analysis.results import table
from lfombench.harness import run
from lfombench.harness.errors import UserError
from lfombench.harness.store import snapshots, tables
from lfombench.harness.store.filesystem import place
from lfombench.harness.store.rows import Rows
from tests.builders import SMALL, parsed
from tests.commands import lfombench


@pytest.fixture
def out(finished, tmp_path) -> Path:
    """A copy of a finished store."""
    return Path(shutil.copytree(finished, tmp_path / "out", ignore=shutil.ignore_patterns("mlflow*")))


COUNT = "SELECT count(*) FROM results"


def numbers(out: Path) -> list[tuple]:
    rows = table(str(out), "results").collect().sort("job", "test", "step")
    return rows.select("job", "test", "step", "log_mse").rows()


def run_again(out: Path) -> None:
    """Run the sweep; without a report, which takes as long again."""
    assert run(parsed(out.parent, SMALL), str(out), workers=0, mlflow="off").exit_code == 0


@pytest.mark.parametrize("gone", [["sweeps"], ["sweeps", "log"]])
def test_what_forgot_its_sweeps_says_so_and_how_it_knows_them_again(out, gone):
    """It showed nothing at all, or knew no job."""
    job, before = numbers(out)[0][0], numbers(out)
    for folder in gone:
        shutil.rmtree(out / folder)
    for command in (["status"], ["board"], *([["why", job]] if "log" in gone else [])):
        told = lfombench(*command, "--out", str(out))
        assert "next run" in told.stdout + told.stderr, command
    run_again(out)
    assert numbers(out) == before
    assert lfombench("status", "--out", str(out)).stdout.startswith("small: 20 of 20")


@pytest.mark.parametrize("name", ["1_0.json", "9.json", "notes.txt", "00000001 (1).json", "-0000001.json", "٣.json"])
def test_what_others_put_beside_the_log_is_left_alone(out, name):
    """`int` reads all of these numbers but one, and looked for their files for ever."""
    before = numbers(out)
    (out / "log" / name).write_text("{}")
    assert lfombench("status", "--out", str(out)).stdout.startswith("small: 20 of 20")
    run_again(out)
    assert (out / "log" / name).exists()
    assert numbers(out) == before


@pytest.mark.parametrize(
    "content",
    [
        b"null",
        b'{"files": []}',
        b'{"files": {"results": [["../store.json", 1, 12]]}}',
        b'{"files": {"others": []}}',
        b'{"files": {"results": [["x", "y"]]}}',
        b"[" * 100_000,
    ],
    ids=["nothing", "a list", "a path", "another table", "no numbers", "nested too deeply"],
)
def test_a_snapshot_that_makes_no_sense_does_not_count_and_nothing_it_names_is_touched(out, content, caplog):
    before = numbers(out)
    store = json.loads((out / "store.json").read_text())
    newest = max((out / "log").iterdir())
    (out / "log" / f"{int(newest.stem) + 1:08d}.json").write_bytes(content)
    snapshots._warn.cache_clear()
    assert numbers(out) == before
    assert "is damaged: what was committed last runs again" in caplog.text
    run_again(out)
    assert numbers(out) == before
    assert json.loads((out / "store.json").read_text()) == store


def test_a_bit_that_flips_in_a_number_is_seen_and_its_jobs_run_again(out):
    """Of the same size, and often still Parquet: it was another number on a board."""
    before = numbers(out)
    path = max((out / "results").iterdir(), key=lambda path: path.stat().st_size)
    whole = path.read_bytes()
    here, pages = place(str(out)), pq.read_metadata(path).row_group(0)
    columns = {pages.column(i).path_in_schema: pages.column(i) for i in range(pages.num_columns)}
    for name in ("step", "log_mse"):
        at = columns[name].data_page_offset + columns[name].total_compressed_size // 2
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        bad = tables.damaged(here, "results", snapshots.latest(here).files["results"])
        assert [file.name for file in bad] == [path.name], name
        with pytest.raises(UserError, match=f"{path} cannot be read: the next run makes its rows again"):
            numbers(out)
    for command in (["board"], ["query", "SELECT avg(log_mse) FROM results"]):
        told = lfombench(*command, "--out", str(out))
        assert told.returncode == 1
        assert f"{path} cannot be read: the next run makes its rows again" in told.stderr
    run_again(out)
    assert numbers(out) == before


def damaged_in(path: Path, column: str) -> None:
    """Flip a bit of a column."""
    whole, group = path.read_bytes(), pq.read_metadata(path).row_group(0)
    [chunk] = [each for i in range(group.num_columns) if (each := group.column(i)).path_in_schema == column]
    at = chunk.data_page_offset + chunk.total_compressed_size // 2
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])


def test_of_a_damaged_file_that_runs_do_not_look_at_readers_say_what_helps(out, monkeypatch):
    """It said that the next run makes its rows again, which was not so of a file behind the newest 256 MB."""
    before, path = numbers(out), max((out / "results").iterdir(), key=lambda path: path.stat().st_size)
    monkeypatch.setattr(tables, "READ", 0)
    damaged_in(path, "log_mse")
    with pytest.raises(UserError, match=f"{path} cannot be read: delete it, and the next run makes its rows again"):
        numbers(out)
    path.unlink()
    run_again(out)
    assert numbers(out) == before


def test_what_rewrites_a_damaged_file_names_it(out, monkeypatch):
    """It took it for a fault of the machine."""
    monkeypatch.setattr(tables, "READ", 0)
    paths = sorted((out / "results").iterdir())
    for path in paths:
        damaged_in(path, "log_mse")
    [manifest] = (out / "sweeps").iterdir()
    plain = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(plain | {"jobs": plain["jobs"][:3]}))
    told = lfombench("prune", "--yes", "--out", str(out))
    assert told.returncode == 1
    names, several = ", ".join(map(str, paths)), len(paths) > 1  # as commits came together
    advice = f"delete {'them' if several else 'it'}, and the next run makes {'their' if several else 'its'} rows again"
    assert f"Error: {names} cannot be read: {advice}" in told.stderr
    assert sorted((out / "results").iterdir()) == paths


def test_where_one_file_is_lost_all_others_are_looked_at(out, monkeypatch):
    """A run that mended the one ended with a traceback at the other."""
    before, paths = numbers(out), sorted((out / "weights").iterdir())
    monkeypatch.setattr(tables, "READ", 0)
    for path in (out / "results").iterdir():
        damaged_in(path, "job")
    paths[-1].unlink()
    run_again(out)
    assert numbers(out) == before


def test_no_bit_of_a_file_flips_to_other_rows(out):
    """The headers of pages have no checksum: where bits in them flipped, rows were left out, or numbers were nulls."""
    path = max((out / "results").iterdir(), key=lambda path: path.stat().st_size)
    here, whole, random = place(str(out)), path.read_bytes(), np.random.default_rng(0)
    [file] = [file for file in snapshots.latest(here).files["results"] if file.name == path.name]
    before, footer = Rows(here, "results", [file]).frame(), pq.read_metadata(path)
    places = [(None, at) for at in random.integers(len(whole), size=300).tolist()]
    for column in (footer.row_group(0).column(i) for i in range(footer.num_columns)):
        name, begin = column.path_in_schema.partition(".")[0], column.data_page_offset
        places += [([name], begin + at) for at in (1, *random.integers(40, size=40).tolist())]
    refused = 0
    for columns, at in places:
        bit = 1 << int(random.integers(8))
        path.write_bytes(whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1 :])
        try:
            after = Rows(here, "results", [file]).frame(columns)
        except (OSError, pa.ArrowException):
            refused += 1
        else:
            assert after.equals(before.select(columns or pl.all())), (columns, at, bit)
    assert refused > 300


@pytest.mark.parametrize(
    ("kind", "change"), [("rows", 64), ("crc", 1), ("footer", 1), ("columns", "A"), ("columns", "~~~")]
)
def test_what_the_log_says_of_a_file_may_be_damaged_too_and_costs_the_jobs_of_that_file(out, kind, change):
    """Readers refused the file for ever, and no run found anything wrong with it."""
    before, newest = numbers(out), max((out / "log").iterdir())
    content = json.loads(newest.read_text())
    first = content["files"]["results"][0]
    [name, rows, _] = first
    was = rows if kind == "rows" else content[kind][name]
    now = was ^ change if isinstance(change, int) else change + was[len(change) :]
    if kind == "rows":  # LIMIT would have left rows out
        first[1] = now
    else:
        content[kind][name] = now
    newest.write_text(json.dumps(content))
    with pytest.raises(UserError, match=f"{name} cannot be read: the next run makes its rows again"):
        tables.verify(place(str(out)), tables.damaged)
    told = lfombench("board", "--out", str(out))
    assert kind == "crc" or (told.returncode == 1 and f"{name} cannot be read" in told.stderr), told.stderr
    run_again(out)
    assert numbers(out) == before


def test_a_store_whose_log_has_no_checksums_is_read(out):
    """Before, files and footers had none."""
    before = numbers(out)
    newest = max((out / "log").iterdir())
    newest.write_text(json.dumps({"files": json.loads(newest.read_text())["files"]}))
    assert numbers(out) == before
    assert lfombench("board", "--out", str(out)).returncode == 0


@pytest.mark.parametrize(
    "command", [["board"], ["status"], ["why", "JOB"], ["query", COUNT], ["prune"], ["merge", "OTHER"]]
)
def test_a_file_in_the_place_of_another_is_named(out, tmp_path, command):
    """Both are Parquet, and whole: their columns were read as of no job, or merged into another store."""
    one, other = (next(iter((out / table).iterdir())) for table in ("results", "curves"))
    job = numbers(out)[0][0]
    one.write_bytes(other.read_bytes())
    words = [str(out) if word == "OTHER" else job[:6] if word == "JOB" else word for word in command]
    target = str(tmp_path / "new") if command[0] == "merge" else str(out)
    done = lfombench(*words, "--out", target)
    assert (done.returncode, f"{one} cannot be read" in done.stderr) == (1, True), done.stderr


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"a": {}}', b"\xff"])
def test_what_only_explains_is_made_again_or_does_without(out, content):
    """What a fingerprint was made of, and how wide packs may be."""
    for path in [*(out / "code").iterdir(), out / "widths.json"]:
        path.write_bytes(content)
    for command in ("board", "report"):
        done = lfombench(command, "--out", str(out))
        assert done.returncode == 0, done.stderr
    run_again(out)


@pytest.mark.parametrize("change", [{"jobs": 3}, {"axis": 5}, {"parts": [1]}, {"named": []}, {"skipped": "no"}])
def test_a_manifest_of_wrong_types_is_named(out, change):
    path = out / "sweeps" / "small.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    for command in ("status", "board", "report"):
        done = lfombench(command, "--out", str(out))
        assert (done.returncode, f"{path} is damaged" in done.stderr) == (1, True), done.stderr


def test_a_sweep_that_is_its_own_part_ends(out):
    path = out / "sweeps" / "small.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"parts": ["small"]}))
    assert lfombench("status", "--out", str(out)).stdout.count("small:") == 1


def test_a_plan_deletes_nothing(out):
    (out / "checkpoints").mkdir(exist_ok=True)
    for name in ("notes.json", "0a1b.safetensors"):
        (out / "checkpoints" / name).write_text("mine")
    lfombench("plan", "fig1", "--out", str(out))
    assert {path.name for path in (out / "checkpoints").iterdir()} == {"notes.json", "0a1b.safetensors"}
    run_again(out)
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["notes.json"]


@pytest.mark.parametrize("lost", ["deleted", "damaged"])
def test_a_store_that_lost_its_log_is_not_empty_and_loses_no_row(out, lost):
    """Its files looked like those that a killed driver left: boards were empty, and the next run deleted them."""
    for path in out.glob("log/*.json"):
        path.unlink() if lost == "deleted" else path.write_text("{")
    files, before = sorted(path.name for path in out.rglob("*.parquet")), numbers_of(out)
    assert any(name > "00000002" for name in files)
    for command in (["board"], ["status"], ["query", COUNT], ["report"]):
        told = lfombench(*command, "--out", str(out))
        assert told.returncode == 1, command
        assert "is gone or damaged" in told.stderr
        assert "the next run sets them aside" in told.stderr
    assert sorted(path.name for path in out.rglob("*.parquet")) == files
    run_again(out)
    aside = [path.name for path in (out / "stale").iterdir()]
    assert sorted(name.partition("-")[2] for name in aside) == files
    assert numbers(out) == before


def numbers_of(out: Path) -> list[tuple]:
    """The numbers of all result files, whatever lists them."""
    rows = pl.read_parquet(out / "results" / "*.parquet").sort("job", "test", "step")
    return rows.select("job", "test", "step", "log_mse").rows()
