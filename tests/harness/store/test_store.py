"""The ledger: all of a pack or nothing, never twice, nothing half-written, nothing of another version."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal

import polars as pl
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from lfombench.analysis.results import table
from lfombench.harness.errors import UserError
from lfombench.harness.store import maintenance, queries
from lfombench.harness.store.folder import TEMPORARY
from lfombench.harness.store.rows import Rows
from lfombench.harness.store.schema import RESULTS, TABLES, VERSION
from lfombench.harness.store.snapshots import File
from lfombench.harness.store.store import Store
from lfombench.harness.training.execute import failure
from lfombench.solvers import ConjugateGradient
from tests.builders import ids, pack, rows, run


def test_what_is_committed_is_done(store):
    assert queries.done(store.place) == {}
    store.commit([run(pack())])
    assert queries.done(store.place).keys() == ids(pack())
    assert queries.done(Store(store.out).place) == queries.done(store.place)
    assert len({record for record in queries.done(store.place).values()}) == 1


def test_what_another_machine_has_deleted_is_not_there(store, monkeypatch):
    """NFS says so of a file that this machine still knows of; no NFS is at hand here."""
    opened = os.open

    def elsewhere(path, *arguments, **options):
        if path == "store.json":
            raise OSError(errno.ESTALE, "Stale file handle", path)
        return opened(path, *arguments, **options)

    monkeypatch.setattr(os, "open", elsewhere)
    assert store.place.read("store.json") is None


def test_packs_that_wait_together_are_one_file_of_each_table(store):
    store.commit([run(pack([0])), run(pack([1])), run(pack([2]))])
    assert [len(store.place.names(name)) for name in TABLES] == [1] * 4
    assert queries.done(store.place).keys() == ids(pack())


def test_two_drivers_never_commit_a_job_twice(store):
    """The second finds that a snapshot was made since it looked: what is there already, it leaves out."""
    other = Store(store.out)
    store.commit([run(pack())])
    other.commit([run(pack(range(1, 5)))])
    assert other.snapshot.number == 2
    store.commit([run(pack([6]))])
    store.commit([run(pack([3, 4]))])  # of the other's, of which it learned by the last commit
    assert len(rows(store)) == 6 * 2
    for name, key in (("results", ["job", "test", "step"]), ("curves", ["job", "step"]), ("weights", ["job", "name"])):
        found = rows(store, name)
        assert len(found) == len(found.unique(key)), name
        assert found["job"].n_unique() == 6
    assert {f"{name}/{base}" for name in TABLES for base in store.place.names(name)} == {
        path for name in TABLES for path in store.snapshot.paths(name)
    }


def test_a_late_writer_cannot_take_a_number_that_was_given_away_long_ago(store):
    late = Store(store.out)
    for seed in range(12):
        store.commit([run(pack([seed], ConjugateGradient(depth=1)))])
    assert len(store.place.names("log")) < 12
    late.commit([run(pack([20], ConjugateGradient(depth=1)))])
    assert late.snapshot.number == 13
    assert len(queries.done(store.place)) == 13


def test_a_commit_that_was_built_upon_before_it_looked_again_stands(store, monkeypatch):
    """A driver that is held up right behind its commit finds a later number; which does not mean that it was beaten."""
    other, real = Store(store.out), type(store.place).create

    def held_up(self, name, content):
        made = real(self, name, content)
        if self is store.place and not other.snapshot.number:
            other.catch_up()
            other.commit([run(pack([7]))])
        return made

    monkeypatch.setattr(type(store.place), "create", held_up)
    store.commit([run(pack())])
    monkeypatch.undo()
    assert queries.done(store.place).keys() == ids(pack([0, 1, 2, 7]))
    store.commit([run(pack([8]))])
    assert len(rows(store)) == 5 * 2
    assert not maintenance.repair(store)


def test_a_commit_whose_answer_was_lost_stands(store, monkeypatch):
    """Sent again by the client of S3, it is refused: it is there."""
    real = type(store.place).create
    monkeypatch.setattr(type(store.place), "create", lambda *given: real(*given) and False)
    store.commit([run(pack())])
    monkeypatch.undo()
    store.commit([run(pack([8]))])
    assert queries.done(store.place).keys() == ids(pack([0, 1, 2, 8]))
    assert len(rows(store)) == 4 * 2
    assert not maintenance.repair(store)


@pytest.mark.parametrize("when", ["jobs", "curves", "weights", "results", "log"])
def test_a_writer_that_dies_in_a_commit_leaves_all_or_nothing(store, monkeypatch, when):
    """Whichever file it dies in: the job is not done, and the next driver sweeps up what was written."""
    store.commit([run(pack([5]))])
    before = {name: rows(store, name) for name in TABLES}
    put, create = type(store.place).put, type(store.place).create

    def dies(self, name, content, real=put):
        if name.startswith(when):
            raise OSError(28, "No space left on device")
        return real(self, name, content)

    monkeypatch.setattr(type(store.place), "put", dies)
    monkeypatch.setattr(type(store.place), "create", lambda self, name, content: dies(self, name, content, create))
    with pytest.raises(UserError, match=r"No space left on device.*committed before is safe"):
        store.commit([run(pack())])
    monkeypatch.undo()
    again = Store(store.out)
    again.remove_uncommitted()
    assert queries.done(again.place).keys() == ids(pack([5]))
    for name in TABLES:
        assert rows(again, name).equals(before[name])
        assert len(again.place.names(name)) == 1
    again.commit([run(pack())])
    assert len(queries.done(again.place)) == 4


def test_half_written_files_are_swept_up_and_other_peoples_are_not(store):
    store.commit([run(pack())])
    done = queries.done(store.place)
    leftover = [
        f"{store.out}/results/{TEMPORARY}0123456789ab-x.parquet",
        f"{store.out}/results/00000009-abcdef0.parquet",
    ]
    for path in [*leftover, f"{store.out}/results/mine.parquet"]:
        with open(path, "wb") as file:
            file.write(b"PAR1 and then the power went")
    assert queries.done(store.place) == done
    again = Store(store.out)
    again.remove_uncommitted()
    assert queries.done(again.place) == done
    assert not any(os.path.exists(path) for path in leftover)
    assert os.path.exists(f"{store.out}/results/mine.parquet")


def test_a_reader_in_the_middle_of_a_merge_reads_again(store, monkeypatch):
    """The files it was about to read are gone: it takes the ones that hold their rows now."""
    store.commit([run(pack([0]))])
    store.commit([run(pack([1]))])
    merged = []

    def slow(*arguments):
        found = Rows(*arguments)
        if not merged:
            merged.append(True)
            maintenance.compact(store, 2)
        return found

    monkeypatch.setattr("lfombench.harness.store.tables.Rows", slow)
    assert queries.done(Store(store.out).place).keys() == ids(pack([0, 1]))
    assert merged


def test_a_table_in_python_is_what_is_committed_when_it_is_collected(store):
    """It listed the files before, and they were gone."""
    store.commit([run(pack([0]))])
    results = table(store.out, "results")
    store.commit([run(pack([1]))])
    maintenance.compact(store, 2)
    whole = results.collect()
    assert set(whole["job"]) == ids(pack([0, 1]))
    few = results.filter(pl.col("step") == 1).select("job", "mse").head(2).collect()
    assert few.equals(whole.filter(pl.col("step") == 1).select("job", "mse").head(2))
    assert results.select(pl.len()).collect().item() == len(whole)
    assert table(store.out, "curves").filter(pl.col("job") == "none").select("step").collect().is_empty()


def test_failed_jobs_are_on_record_but_not_done_and_a_success_replaces_them(store):
    store.commit([failure(pack(), None, "Traceback: it broke")])
    assert queries.done(store.place) == {}
    assert queries.failed(store.place) == dict.fromkeys(ids(pack()), "Traceback: it broke")
    assert queries.rows_of(store.place, "jobs", ids(pack()))["status"].to_pylist() == ["failed"] * 3
    for each in (pack([0]), pack([1, 2])):
        store.commit([run(each)])
    assert queries.failed(store.place) == {}
    assert queries.rows_of(store.place, "jobs", ids(pack()))["status"].to_pylist() == ["done"] * 3


def test_columns_are_as_declared(store):
    store.commit([run(pack())])
    for name, columns in TABLES.items():
        [path] = store.snapshot.paths(name)
        found = pq.read_schema(f"{store.out}/{path}")
        assert found.names == [column.name for column in columns]
        assert found.types == [column.type for column in columns]
    promised = (
        "job task test solver family depth step seed protocol mse log_mse mse_normalised "
        "median q90 q99 failure_rate prompts blocks fit_error conjugacy params status reason code"
    )
    assert [column.name for column in RESULTS] == promised.split()


def test_files_with_fewer_columns_can_be_read(store):
    """A store written before a column was added, and before files had checksums."""
    store.commit([run(pack())])
    [new] = store.snapshot.files["results"]
    name = "00000001-0.parquet"
    path = f"{store.out}/results/{name}"
    rows = pq.read_table(f"{store.out}/results/{new.name}").drop_columns(["q99"])
    pq.write_table(rows, path)
    store.swap({}, {"results": {new: File(name, rows.num_rows, os.path.getsize(path))}})
    assert len(queries.done(store.place)) == 3
    assert table(store.out, "results").collect()["q99"].null_count() == 6


def test_untrained_jobs_leave_neither_weights_nor_curves(store):
    store.commit([run(pack(solver=ConjugateGradient(depth=1)))])
    assert store.place.names("weights") == []
    assert store.place.names("curves") == []


@pytest.mark.parametrize(("version", "age"), [(VERSION + 1, "a newer"), (VERSION - 1, "an older")])
def test_a_store_of_another_schema_is_refused(store, version, age):
    with open(f"{store.out}/store.json", "w") as file:
        json.dump({"schema": version}, file)
    with pytest.raises(UserError, match=f"{age} lfombench: its schema is {version}, this one reads {VERSION}"):
        Store(store.out)


def test_a_file_is_no_store(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(UserError, match="is a file; it must be a folder"):
        Store(str(tmp_path / "out"))


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        Store(str(tmp_path / "file" / "out")).create()


def test_a_full_disk_is_told_and_loses_nothing(store):
    """A real failing write: the kernel refuses to let files grow."""
    store.commit([run(pack([0]))])
    outcome = run(pack([1]))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(UserError, match=r"cannot be written: .*the same command goes on"):
            store.commit([outcome])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert queries.done(store.place).keys() == ids(pack([0]))
    everything = fs.LocalFileSystem().get_file_info(fs.FileSelector(store.out, recursive=True))
    assert not any(info.base_name[0] == "." for info in everything)
    store.commit([outcome])
    assert len(queries.done(store.place)) == 2


@pytest.mark.parametrize("how", ["put", "create"])
def test_a_write_outlives_the_sweep_of_a_driver_that_starts(store, how, monkeypatch):
    """Which takes the temporary file for one that a killed driver left: two that start at once sweep so."""
    flush = os.fsync
    sweeps = iter([store.place.sweep])

    def swept(handle: int) -> None:
        flush(handle)
        next(sweeps, lambda: None)()

    monkeypatch.setattr(os, "fsync", swept)
    assert getattr(store.place, how)("folder/name", b"content") in (None, True)
    assert store.place.read("folder/name") == b"content"
    assert store.place.names("folder") == ["name"]
    assert not next(sweeps, None)
