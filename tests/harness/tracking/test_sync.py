"""Reconciling a SQLite view with its store, from any state, read back through MLflow's public interface."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace

import polars as pl
import pyarrow as pa
import pytest

from lfombench.analysis.results import table
from lfombench.harness.driver.manifests import record_sweep
from lfombench.harness.errors import UserError
from lfombench.harness.store import maintenance, schema
from lfombench.harness.store.store import Store
from lfombench.harness.tracking import contents
from lfombench.harness.tracking import sync as sync_module
from lfombench.harness.tracking.database import ready
from lfombench.harness.tracking.page import Page
from lfombench.harness.tracking.sql import SqlView
from lfombench.harness.tracking.sync import Stopped, Told
from lfombench.harness.tracking.view import Refused, Unreachable
from lfombench.harness.training.execute import failure
from tests.builders import pack, run
from tests.commands import lfombench
from tests.views import (
    SOLVER,
    api,
    by_job,
    changed,
    commit,
    copied,
    opened,
    other_task,
    runs,
    shown_at,
    sweep_of,
    synced,
    verified,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
)
NO_DIFFERENCE: list = []


def test_every_job_is_a_run_with_its_curve_and_losses(finished):
    """As `run` leaves it: the values of the Parquet files, where MLflow's own client finds them."""
    store = Store(finished)
    of = by_job(store, experiment="small")
    results, curves = table(finished, "results").collect(), table(finished, "curves").collect()
    assert of.keys() == set(results["job"])
    assert len(of) == 20
    shown = next(r for r in of.values() if r.data.params["solver"] == "memformer" and r.data.tags["depth"] == "2")
    job = shown.data.tags["job"]
    assert shown.info.status == "FINISHED"
    assert (
        shown.info.run_name
        == f"memformer cgd full L2 s{shown.data.tags['seed']} {shown.data.tags['protocol'].partition('(')[0]}"
    )
    assert {
        "solver.depth": "2",
        "task.d": "3",
        "task.noise": "0.0",
        "task.heteroscedastic": "false",
    }.items() <= shown.data.params.items()
    assert shown.data.tags["solver"] == "memformer(memory=cgd, preconditioner=full)"
    assert {"family": "learned", "status": "done", "sweep": "small"}.items() <= shown.data.tags.items()
    ours, curve = (rows.filter(rows["job"] == job).sort("step") for rows in (results, curves))
    client = api(store)
    history = {m.step: m.value for m in client.get_metric_history(shown.info.run_id, "log_mse")}
    assert history == dict(zip(ours["step"], ours["log_mse"], strict=True))
    assert shown.data.metrics["log_mse"] == ours["log_mse"][-1]
    assert shown.data.metrics["q99"] == ours["q99"][-1]
    losses = {m.step: m.value for m in client.get_metric_history(shown.info.run_id, "loss")}
    assert losses == dict(zip(curve["step"], curve["loss"], strict=True))
    [dataset] = shown.inputs.dataset_inputs
    assert dataset.dataset.name == "linear_regression(d=3, n=8)"


def test_nothing_differs_and_nothing_is_done_twice(finished, tmp_path):
    store = copied(finished, tmp_path)
    assert (synced(store).written, verified(store).differences) == (20, NO_DIFFERENCE)
    before = (tmp_path / "out" / "mlflow.db").read_bytes()
    assert synced(store).written == 0
    assert (tmp_path / "out" / "mlflow.db").read_bytes() == before
    assert synced(store, anew=True).written == 20
    assert verified(store).differences == NO_DIFFERENCE


def test_a_job_that_runs_again_shows_its_new_numbers(store):
    """It kept the old ones: MLflow was never asked what it showed."""
    [job] = commit(store, sweep_of(1))
    synced(store)
    before = by_job(store)[job]
    changed(store, {"log_mse": pl.lit(0.25), "code": pl.lit("changed")})
    assert synced(store).written == 1
    after = by_job(store)[job]
    assert after.data.metrics["log_mse"] == 0.25
    assert after.info.run_id == before.info.run_id
    history = api(store).get_metric_history(after.info.run_id, "log_mse")
    assert [m.value for m in history] == [0.25] * 3, "the old values are gone"
    assert verified(store).differences == NO_DIFFERENCE


@pytest.mark.parametrize(
    ("name", "column", "value"),
    [
        *(("results", column, 0.125) for column in ("mse", "log_mse", "mse_normalised", "median", "q90", "q99")),
        ("results", "failure_rate", 0.125),
        ("results", "test", "another"),
        ("jobs", "status", "diverged"),
        ("jobs", "reason", "a reason"),
        ("jobs", "pack", "another"),
    ],
)
def test_whatever_changes_in_the_store_changes_in_the_view(store, name, column, value):
    [job] = commit(store, sweep_of(1))
    before = contents.digests(store.place)
    changed(store, {column: pl.lit(value)}, name)
    after = contents.digests(store.place)
    assert before.keys() == after.keys() == {job}
    assert before != after


def test_test_tasks_that_came_while_mlflow_was_off_are_shown(store):
    """They never appeared: the job had a run already."""
    first = sweep_of(2)
    commit(store, first)
    synced(store)
    further = other_task(noise=0.5)
    store.commit([run(replace(pack(range(2), SOLVER), tests=(further,)))])
    assert synced(store).written == 2
    for shown in by_job(store).values():
        assert {"log_mse", "log_mse/linear_regression d_2 n_3 noise_0.5"} <= shown.data.metrics.keys()
    assert verified(store).differences == NO_DIFFERENCE


def test_a_failed_job_has_one_run_however_often_it_fails(store):
    """Three jobs that failed twice had twelve FAILED runs, still there after success."""
    sweep = sweep_of(3)
    jobs = commit(store, sweep)
    maintenance.remove(store, {"results": pl.lit(True), "jobs": pl.lit(True)})
    for attempt in range(2):
        store.commit([failure(pack(range(3), SOLVER), None, f"attempt {attempt}")])
        synced(store)
    of = by_job(store)
    assert of.keys() == set(jobs)
    assert {(r.info.status, r.data.tags["status"], r.data.tags["reason"]) for r in of.values()} == {
        ("FAILED", "failed", "attempt 1")
    }
    store.commit([run(pack(range(3), SOLVER))])
    synced(store)
    assert {r.info.status for r in by_job(store).values()} == {"FINISHED"}
    assert len(runs(store, kind=3)) == 3, "nor among the deleted ones"
    assert all("reason" not in r.data.tags for r in by_job(store).values())


def test_what_mlflow_would_refuse_is_shortened_and_kept(store):
    """A test task with a long spectrum ended the logging of the whole sweep, for ever, and left a RUNNING run."""
    wide = other_task(d=30, spectrum=tuple(1 + i / 7 for i in range(30)))
    commit(store, sweep_of(1), (wide,))
    work = synced(store)
    assert (work.written, work.refused) == (1, {})
    [shown] = by_job(store).values()
    [key] = [name for name in shown.data.metrics if name.startswith("log_mse/")]
    mark = key.rpartition("-")[2]
    whole = "".join(
        value
        for name, value in sorted(
            shown.data.tags.items(),
            key=lambda tag: int(tag[0].rpartition(".")[2]) if tag[0].startswith("lfombench.full.") else -1,
        )
        if name.startswith(f"lfombench.full.{mark}.")
    )
    assert whole == table(store.out, "results").filter(pl.col("test") != pl.col("task")).collect()["test"][0]
    found = verified(store)
    assert found.differences == NO_DIFFERENCE
    assert mark in found.shortened


def test_runs_of_jobs_that_are_gone_go_and_those_that_are_deleted_come_back(store):
    jobs = commit(store, sweep_of(4))
    synced(store)
    of = by_job(store)
    api(store).delete_run(of[jobs[0]].info.run_id)
    record_sweep(store, sweep_of(2))  # the sweep wants two jobs from now on
    work = synced(store)
    assert (work.written, work.removed) == (1, 2)
    assert by_job(store).keys() == {jobs[0], jobs[1]}
    experiment = api(store).get_experiment_by_name("viewed").experiment_id
    api(store).delete_experiment(experiment)
    assert synced(store).written == 2
    assert by_job(store).keys() == {jobs[0], jobs[1]}
    store.place.delete("sweeps/viewed.json")
    assert synced(store).removed == 2
    assert by_job(store) == {}


def test_what_others_have_there_is_never_touched(store):
    """Their runs in the same experiment, notes and tags on ours, a description that somebody wrote."""
    from mlflow.entities import Metric

    [job] = commit(store, sweep_of(1))
    ready(shown_at(store).uri)
    client = api(store)
    experiment = client.create_experiment("viewed")
    theirs = client.create_run(experiment, tags={"job": job, "team": "others"}).info.run_id
    client.log_batch(theirs, [Metric("loss", 1.0, 0, 0)])
    synced(store)
    ours = by_job_of_ours(store)[job]
    client.set_tag(ours.info.run_id, "favourite", "yes")
    client.set_tag(ours.info.run_id, "mlflow.note.content", "look at this")
    changed(store, {"log_mse": pl.lit(0.25)})
    synced(store)
    synced(store, anew=True)
    again = by_job_of_ours(store)[job].data.tags
    assert (again["favourite"], again["mlflow.note.content"]) == ("yes", "look at this")
    assert client.get_run(theirs).data.metrics == {"loss": 1.0}
    assert client.get_run(theirs).info.lifecycle_stage == "active"
    assert verified(store).differences == NO_DIFFERENCE


def by_job_of_ours(store: Store) -> dict:
    return {r.data.tags["job"]: r for r in runs(store) if r.data.tags.get("mlflow.source.name") == "lfombench"}


def test_two_stores_in_one_database_keep_to_their_own(tmp_path):
    stores = [Store(str(tmp_path / name)) for name in ("one", "two")]
    uri = f"sqlite:///{tmp_path}/both.db"
    for count, store in enumerate(stores, 1):
        store.create()
        commit(store, sweep_of(count))
        assert synced(store, uri).written == count
    assert len(runs(stores[0], uri)) == 3
    record_sweep(stores[1], sweep_of(1))
    assert synced(stores[1], uri).removed == 1
    assert [verified(store, uri).differences for store in stores] == [NO_DIFFERENCE] * 2


def test_the_runs_of_an_older_lfombench_are_replaced(store):
    """They had ids of their own, no digest, and no word of whose they are."""
    jobs = commit(store, sweep_of(2))
    ready(shown_at(store).uri)
    client = api(store)
    experiment = client.create_experiment("viewed")
    for job in [*jobs, jobs[0], "another store's"]:
        tags = {"job": job, "status": "done", "sweep": "viewed", "mlflow.source.name": "lfombench"}
        client.create_run(experiment, tags=tags)
    elsewhere = client.create_run(client.create_experiment("elsewhere"), tags=tags | {"sweep": "elsewhere"})
    assert synced(store).written == 2
    assert by_job(store).keys() == {*jobs, "another store's"}
    assert synced(store).written == 0
    assert client.get_run(elsewhere.info.run_id).info.lifecycle_stage == "active"
    assert verified(store).differences == NO_DIFFERENCE


def test_one_stopped_between_two_transactions_is_taken_up(store, monkeypatch):
    monkeypatch.setattr(SqlView, "at_once", 1)
    jobs = commit(store, sweep_of(4))
    answers = iter([False, False, True])
    with pytest.raises(Stopped):
        synced(store, told=Told(stop=lambda: next(answers)))
    assert len(by_job(store)) == 2
    assert synced(store).written == 2
    assert by_job(store).keys() == set(jobs)


def test_verify_finds_every_change(store):
    jobs = commit(store, sweep_of(6))
    synced(store)
    client = api(store)
    of = {job: by_job(store)[job].info.run_id for job in jobs}
    client.set_tag(of[jobs[0]], "solver", "mine")
    client.log_param(of[jobs[1]], "extra", 1)
    client.log_metric(of[jobs[2]], "log_mse", 7.0, step=9)
    client.delete_run(of[jobs[3]])
    client.update_run(of[jobs[4]], name="another name")
    found = {one.job: one.what for one in reversed(verified(store).differences)}  # the first of each
    assert found.keys() == set(jobs[:5])
    assert found[jobs[0]].startswith("tag solver: mine, should be conjugate_gradient")
    assert found[jobs[1]] == "parameter extra: 1, should be nothing"
    assert found[jobs[2]] == "metric log_mse at step 9: 7.0, should be nothing"
    assert found[jobs[3]] == "is not shown"
    assert "name" in found[jobs[4]]
    assert synced(store).written == 1, "a digest does not see what is changed by hand"
    synced(store, anew=True)
    assert verified(store).differences == NO_DIFFERENCE


def test_a_schema_that_was_not_tried_is_written_through_the_client(store):
    """Rows of our own in tables of another version would be a guess."""
    commit(store, sweep_of(2))
    ready(shown_at(store).uri)
    with opened(store) as view:
        assert isinstance(view, SqlView)
    told: list[str] = []
    from lfombench.harness.tracking import database
    from lfombench.harness.tracking import opened as module

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "tried", lambda: "another revision")
        view = module.open_view(shown_at(store), module.identity(store.place), told.append)
        assert type(view).__name__ == "ClientView"
        assert "its schema is not one" in told[0]
        assert synced(store).written == 2
        assert synced(store).written == 0
        assert verified(store).differences == NO_DIFFERENCE
    assert synced(store).written == 0, "both ways write the same"
    assert verified(store).differences == NO_DIFFERENCE


def test_a_database_of_something_else_is_not_touched(store, tmp_path):
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE people (name TEXT)")
    commit(store, sweep_of(1))
    with pytest.raises(Exception, match="is a database of something else"):
        synced(store, f"sqlite:///{path}")
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("people",)]


def test_a_copy_of_a_store_with_its_view_needs_nothing(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "copy")
    assert synced(Store(str(tmp_path / "copy"))).written == 0


def test_a_failed_job_without_spec_and_time_is_shown(store):
    """What other tools have put into a store has less than ours."""
    commit(store, sweep_of(1))
    row = {"job": "strange", "status": "failed", "solver": "s", "protocol": "p", "finished": None}
    store.add({"jobs": pa.Table.from_pylist([row], schema=schema.arrow("jobs"))})
    wanted = json.loads(store.place.read("sweeps/viewed.json"))
    store.write("sweeps/viewed.json", json.dumps(wanted | {"jobs": [*wanted["jobs"], "strange"]}))
    assert synced(store).written == 2
    assert by_job(store)["strange"].info.status == "FAILED"
    assert verified(store).differences == NO_DIFFERENCE


def test_a_tag_that_somebody_has_changed_is_no_reason_to_stop(store):
    jobs = commit(store, sweep_of(2))
    synced(store)
    run = by_job(store)[jobs[0]].info.run_id
    value = by_job(store)[jobs[0]].data.tags["lfombench.shows"]
    for text in ("nonsense", value.partition(" ")[0] + " x", ""):
        api(store).set_tag(run, "lfombench.shows", text)
        assert synced(store).written == 1
        assert verified(store).differences == NO_DIFFERENCE
    assert by_job(store).keys() == set(jobs)


def test_a_view_follows_its_store_when_that_is_moved(finished, tmp_path):
    """The places of artifacts are whole paths, which led to the old folder."""
    store = copied(finished, tmp_path)
    assert lfombench("mlflow", "sync", "--out", store.out).returncode == 0
    (tmp_path / "out").rename(tmp_path / "moved")
    assert lfombench("mlflow", "sync", "--out", str(tmp_path / "moved")).returncode == 0
    moved = Store(str(tmp_path / "moved"))
    [summary] = [run for run in runs(moved, experiment="small") if "job" not in run.data.tags]
    assert "board.md" in {file.path for file in api(moved).list_artifacts(summary.info.run_id)}
    assert all("/moved/" in run.info.artifact_uri for run in runs(moved, experiment="small"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("harm", ["deleted", "renamed", "files"])
def test_the_summary_comes_back(finished, tmp_path, harm):
    store = copied(finished, tmp_path)
    assert lfombench("mlflow", "sync", "--out", store.out).returncode == 0
    [summary] = [run for run in runs(store, experiment="small") if "job" not in run.data.tags]
    if harm == "deleted":
        api(store).delete_run(summary.info.run_id)
    elif harm == "renamed":
        api(store).update_run(summary.info.run_id, name="other")
    else:
        shutil.rmtree(f"{store.out}/artifacts")
    assert lfombench("mlflow", "sync", "--out", store.out).returncode == 0
    [again] = [run for run in runs(store, experiment="small") if "job" not in run.data.tags]
    assert again.info.run_name == "summary: board and report"
    assert "board.md" in {file.path for file in api(store).list_artifacts(again.info.run_id)}


@pytest.mark.parametrize("table", ["runs", "inputs", "datasets", "tags", "latest_metrics"])
def test_rows_that_lost_others_are_no_obstacle(store, table):
    commit(store, sweep_of(2))
    synced(store)
    with closing(sqlite3.connect(f"{store.out}/mlflow.db", isolation_level=None)) as connection:
        connection.execute(f"DELETE FROM {table}")
    work = synced(store, anew=True)
    assert (work.written, work.refused) == (2, {})
    assert verified(store).differences == NO_DIFFERENCE


def test_verify_looks_at_what_tables_show(store):
    commit(store, sweep_of(1))
    synced(store)
    with closing(sqlite3.connect(f"{store.out}/mlflow.db", isolation_level=None)) as connection:
        connection.execute("UPDATE latest_metrics SET value = 77 WHERE key = 'log_mse'")
    [found] = verified(store).differences
    assert found.what.startswith("last value of log_mse: 77.0, should be ")


def test_a_database_in_a_folder_that_is_not_there_is_refused(store, tmp_path):
    commit(store, sweep_of(1))
    with pytest.raises(UserError, match="there is no folder"):
        synced(store, f"sqlite:///{tmp_path}/nowhere/x.db")
    assert not (tmp_path / "nowhere").exists()


class Failing(SqlView):
    """Has a tracking store's own fault with some jobs: it answers, but not to these."""

    bad: tuple[str, ...] = ()
    at_once = 1

    def write(self, experiment, runs, instead):
        if {run.job for run in runs} & set(self.bad):
            raise Unreachable("error 500")
        super().write(experiment, runs, instead)


@pytest.mark.parametrize("bad", [1, 2, 6])
def test_a_job_that_a_server_fails_at_ends_and_all_others_are_shown(store, monkeypatch, bad):
    """It was tried again for ever; where nothing can be written, that is said, not job by job."""
    monkeypatch.setattr(sync_module, "PAUSES", (0.01,))
    jobs = commit(store, sweep_of(6))
    with opened(store) as view:
        assert isinstance(view, SqlView)
        failing = Failing(view.connection, view.store, shown_at(store))
        failing.bad = tuple(jobs[:bad])
        if bad == 6:
            with pytest.raises(UserError, match="error 500"):
                sync_module.sync(store.place, view.store, failing)
            return
        work = sync_module.sync(store.place, view.store, failing)
    assert (work.written, work.refused.keys()) == (6 - bad, set(jobs[:bad]))
    assert by_job(store).keys() == set(jobs[bad:])


@pytest.mark.parametrize("revision", ["0123456789ab", "fff"])
def test_a_database_of_another_mlflow_is_named(store, revision):
    commit(store, sweep_of(1))
    ready(shown_at(store).uri)
    with closing(sqlite3.connect(f"{store.out}/mlflow.db", isolation_level=None)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", [revision])
    with pytest.raises(Refused, match="out-of-date database schema"):
        synced(store)


def test_a_database_in_memory_is_none(store):
    commit(store, sweep_of(1))
    for uri in ("sqlite://", "sqlite:///:memory:"):
        with pytest.raises(UserError, match="names no file"):
            synced(store, uri)


@pytest.mark.parametrize("revision", [None, "another revision"])
def test_nothing_is_written_to_the_working_directory(store, tmp_path, monkeypatch, revision):
    """MLflow's client makes a folder there for an experiment that names no other, as in a database of one's own."""
    from lfombench.harness.tracking import database

    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    if revision:
        monkeypatch.setattr(database, "tried", lambda: revision)
    commit(store, sweep_of(1))
    uri = f"sqlite:///{tmp_path}/there/x.db"
    page = Page("mark", "text", {"board.md": b"board"})
    with opened(store, uri) as view:
        view.open("viewed")
        view.describe("viewed", page)
    assert list((tmp_path / "here").iterdir()) == []
    assert [path.name for path in (tmp_path / "there").rglob("board.md")] == ["board.md"]
