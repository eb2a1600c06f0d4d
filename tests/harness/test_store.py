"""The ledger: results last, never twice, nothing half-written, nothing from the future."""

from __future__ import annotations

import json
import resource
import signal
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
import torch
from pyarrow import fs

from lfombench.harness import PROTOCOLS, Job, load
from lfombench.harness.errors import UserError
from lfombench.harness.pack import Pack
from lfombench.harness.record import execute, failure
from lfombench.harness.schema import RESULTS, TABLES, VERSION
from lfombench.harness.store import Store
from lfombench.solvers import ConjugateGradient, LinearTransformer
from lfombench.tasks import LinearRegression

QUICK = replace(PROTOCOLS["rigorous"], steps=2, batch=4, learning_rates=(0.1,), test_prompts=64)
TASK = LinearRegression(d=2, n=3)


def pack(seeds=range(3), solver=None) -> Pack:
    solver = solver or LinearTransformer(depth=1, preconditioner="full")
    return Pack(tuple(Job.of(task=TASK, solver=solver, protocol=QUICK, seed=seed) for seed in seeds))


@pytest.fixture
def store(tmp_path) -> Store:
    made = Store(str(tmp_path / "out"))
    made.create()
    return made


def run(given: Pack):
    return execute(given, torch.device("cpu"))


def test_what_is_committed_is_done(store):
    done = store.done()
    assert done == set()
    store.commit(run(pack()), done)
    assert store.done() == done
    assert {job for job, _ in done} == {job.id for job in pack().jobs}


def test_a_job_is_never_there_twice(store):
    """Not by committing a pack again, nor by another pack that holds some of the same jobs."""
    done = store.done()
    store.commit(run(pack()), done)
    store.commit(run(pack()), done)
    store.commit(run(pack(range(1, 5))), done)
    rows = store.rows("results", {job for job, _ in done}).to_pylist()
    assert len(rows) == 5 * 2
    assert len({(row["job"], row["test"], row["step"]) for row in rows}) == 10
    assert len(store.rows("jobs", {job for job, _ in done})) == 5


def test_results_are_written_last(store, monkeypatch):
    """A writer that dies before the end leaves a job that is not done."""
    written: list[str] = []
    write = Store._write

    def dies(self, name, content):
        written.append(name.partition("/")[0])
        if name.startswith("results"):
            raise OSError(28, "No space left on device")
        write(self, name, content)

    monkeypatch.setattr(Store, "_write", dies)
    done = store.done()
    with pytest.raises(UserError, match=r"No space left on device.*committed before is safe"):
        store.commit(run(pack()), done)
    assert written == ["weights", "curves", "jobs", "results"]
    assert done == set()
    monkeypatch.undo()
    assert store.done() == set()
    store.commit(run(pack()), done)
    assert len(store.done()) == 3


def test_half_written_files_are_swept_up_and_never_read(store):
    done = store.done()
    store.commit(run(pack()), done)
    leftover = [f"{store.root}/results/.writing-1-x.parquet", f"{store.root}/weights/.writing-1-x.safetensors"]
    for path in leftover:
        with open(path, "wb") as file:
            file.write(b"PAR1 and then the power went")
    assert store.done() == done
    store.create()
    assert Store(store.out).done() == done
    assert not any(store.files.get_file_info(path).is_file for path in leftover)


def test_failed_jobs_are_on_record_but_not_done_and_a_success_replaces_them(store):
    done = store.done()
    store.commit(failure(pack(), "Traceback: it broke"), done)
    assert store.done() == set()
    ids = {job.id for job in pack().jobs}
    assert store.rows("jobs", ids)["status"].to_pylist() == ["failed"] * 3
    assert store.rows("jobs", ids)["reason"].to_pylist() == ["Traceback: it broke"] * 3
    for each in (pack([0]), pack([1, 2])):
        store.commit(run(each), done)
    assert store.rows("jobs", ids)["status"].to_pylist() == ["done"] * 3


def test_columns_are_as_declared(store):
    store.commit(run(pack()), store.done())
    for name, columns in TABLES.items():
        [path] = [info.path for info in store.files.get_file_info(fs.FileSelector(f"{store.root}/{name}"))]
        found = pq.read_schema(path)
        assert found.names == [column.name for column in columns]
        assert found.types == [column.type for column in columns]
    promised = (
        "job task test solver family depth step seed protocol mse log_mse mse_normalised "
        "median q90 q99 failure_rate prompts blocks fit_error conjugacy params status reason"
    )
    assert [column.name for column in RESULTS] == promised.split()


def test_files_with_fewer_columns_can_be_read(store):
    """A store written before a column was added."""
    from lfombench.analysis.results import table

    store.commit(run(pack()), store.done())
    [path] = [info.path for info in store.files.get_file_info(fs.FileSelector(f"{store.root}/results"))]
    pq.write_table(pq.read_table(path).drop_columns(["q99"]), path)
    assert len(store.done()) == 3
    assert table(store.out, "results").collect()["q99"].null_count() == 6


def test_weights_load_and_belong_to_their_jobs(store):
    from safetensors.numpy import load_file

    given = pack()
    store.commit(run(given), store.done())
    found = load_file(f"{store.root}/weights/{given.id}.safetensors")
    assert set(found) == {f"{job.id}/A" for job in given.jobs}
    assert found[f"{given.jobs[0].id}/A"].shape == (1, 2, 2)


def test_untrained_jobs_leave_neither_weights_nor_curves(store):
    store.commit(run(pack(solver=ConjugateGradient(depth=1))), store.done())
    assert len(store.files.get_file_info(fs.FileSelector(f"{store.root}/weights"))) == 0
    assert len(store.files.get_file_info(fs.FileSelector(f"{store.root}/curves"))) == 0


def test_history_is_what_packs_have_cost(store):
    assert not store.history("cpu").cost(pack()).measured
    store.commit(run(pack()), store.done())
    assert store.history("cpu").cost(pack()).measured
    assert not store.history("another device").cost(pack()).measured


def test_a_width_that_was_too_much_is_remembered_for_its_device(store):
    store.too_wide("cpu", "abc", 64)
    store.too_wide("cpu", "abc", 40)
    store.too_wide("cpu", "abc", 99)
    assert store.history("cpu").widest == {"abc": 20}
    assert store.history("another device").widest == {}


def test_a_store_of_a_newer_schema_is_refused(store):
    with open(f"{store.root}/store.json", "w") as file:
        json.dump({"schema": VERSION + 1}, file)
    with pytest.raises(
        UserError, match=f"newer lfombench: its schema is {VERSION + 1}, this one knows up to {VERSION}"
    ):
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
    done = store.done()
    store.commit(run(pack([0])), done)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(UserError, match=r"cannot be written: .*the same command goes on"):
            store.commit(run(pack([1])), done)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert store.done() == done
    assert len(done) == 1
    assert not any(
        info.base_name[0] == "." for info in store.files.get_file_info(fs.FileSelector(store.root, recursive=True))
    )
    store.commit(run(pack([1])), done)
    assert len(store.done()) == 2


def test_a_sweep_is_remembered(store, small):
    sweep = load(str(small))
    store.want(sweep)
    from lfombench.analysis.results import sweeps

    [wanted] = sweeps(store.out)
    assert wanted.name == "small"
    assert len(wanted.jobs) == len(sweep) == 20
