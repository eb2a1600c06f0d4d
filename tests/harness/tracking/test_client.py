"""A view through MLflow's own server, which is killed while it is written to."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator

import polars as pl
import pytest

from lfombench.harness.tracking.client import ClientView
from lfombench.harness.tracking.opened import identity
from lfombench.harness.tracking.sync import Stopped, Told, sync
from lfombench.harness.tracking.view import Refused, Unreachable
from tests.commands import lfombench, words
from tests.views import Server, by_job, changed, commit, copied, opened, other_task, runs, sweep_of, synced, verified

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("mlflow server"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"),
]
LONG = tuple(1 + i / 7 for i in range(30))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A tracking server."""
    from lfombench.harness.tracking.database import ready

    started = Server(tmp_path_factory.mktemp("server"))
    ready(started.backend)
    with started:
        yield started


def test_it_shows_what_the_store_has(store, server):
    jobs = commit(store, sweep_of(2, name="plain"), (other_task(d=30, spectrum=LONG),))
    with opened(store, server.uri) as view:
        assert isinstance(view, ClientView)
    assert synced(store, server.uri).written == 2
    assert verified(store, server.uri).differences == []
    assert synced(store, server.uri).written == 0
    before = by_job(store, server.uri, "plain")
    assert before.keys() == set(jobs)
    changed(store, {"log_mse": pl.lit(0.25)}, where=pl.col("job") == jobs[0])
    assert synced(store, server.uri).written == 1
    after = by_job(store, server.uri, "plain")
    assert after[jobs[0]].data.metrics["log_mse"] == 0.25
    assert after[jobs[1]].info.run_id == before[jobs[1]].info.run_id
    assert verified(store, server.uri).differences == []


def test_the_database_behind_it_shows_the_same(store, server):
    """Both ways write the same; what one wrote, the other leaves."""
    commit(store, sweep_of(2, name="behind"))
    assert synced(store, server.uri).written == 2
    assert synced(store, server.backend).written == 0
    assert verified(store, server.backend).differences == []
    assert synced(store, server.backend, anew=True).written == 2
    assert synced(store, server.uri).written == 0
    assert len(by_job(store, server.uri, "behind")) == 2


def test_a_server_that_is_killed_is_waited_for(store, server):
    """It was given up for the rest of the run."""
    jobs = commit(store, sweep_of(6, name="killed"))
    waited: list[str] = []
    back = threading.Timer(2.0, server.start)

    def kill(work):
        if work.written == 3 and not waited:
            server.kill()
            waited.append("")
            back.start()

    work = synced(store, server.uri, Told(kill, waited.append))
    back.join()
    assert work.written >= 6
    assert len(waited) > 1
    assert by_job(store, server.uri, "killed").keys() == set(jobs)
    assert {run.info.status for run in runs(store, server.uri, "killed")} == {"FINISHED"}
    assert verified(store, server.uri).differences == []


def test_one_that_is_killed_in_the_middle_of_a_run_leaves_nothing(store, server):
    """It left a run that is RUNNING for ever, beside the finished one."""
    from lfombench.harness.tracking import client

    jobs = commit(store, sweep_of(2, name="half"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client, "finite", interrupt)
        with pytest.raises(KeyboardInterrupt):
            synced(store, server.uri)
    assert [run.info.status for run in runs(store, server.uri, "half")] == ["RUNNING"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client, "finite", refuse)
        assert synced(store, server.uri).refused.keys() == set(jobs)
    assert len(runs(store, server.uri, "half")) == 1, "what was refused leaves nothing"
    assert synced(store, server.uri).written == 2
    assert by_job(store, server.uri, "half").keys() == set(jobs)
    assert verified(store, server.uri).differences == []


def refuse(value):
    from mlflow.exceptions import MlflowException

    raise MlflowException("this value is refused", 1000)


def interrupt(value):
    raise KeyboardInterrupt


def test_two_writers_give_every_job_one_run(finished, tmp_path, server):
    store = copied(finished, tmp_path)
    command = words("mlflow", "sync", "--out", store.out, "--mlflow", server.uri, "--json")
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    written = [json.loads(one.communicate(timeout=100)[0])["written"] for one in both]
    assert sorted(written) == [0, 20]
    assert len(by_job(store, server.uri, "small")) == 20


def test_a_server_that_was_never_there_is_named_at_once(store, tmp_path):
    commit(store, sweep_of(1))
    begin = time.monotonic()
    with pytest.raises(
        Unreachable, match=r"^http://user:\*\*\*@127.0.0.1:9: \[Errno 111\] Connection refused$"
    ) as missing:
        synced(store, "http://user:s3cret@127.0.0.1:9")
    assert "s3cret" not in str(missing.value)
    assert time.monotonic() - begin < 30
    done = lfombench("mlflow", "sync", "--out", store.out, "--mlflow", "http://user:s3cret@127.0.0.1:9")
    assert done.returncode == 1
    assert "s3cret" not in done.stderr
    assert done.stderr.count("\n") <= 3, done.stderr


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A tracking server that asks who one is."""
    from lfombench.harness.tracking.database import ready

    folder = tmp_path_factory.mktemp("guarded")
    (folder / "auth.ini").write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{folder}/auth.db\n"
        "admin_username = admin\nadmin_password = pass-word-1234\nauthorization_function = "
        "mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    given = {"MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"), "MLFLOW_FLASK_SERVER_SECRET_KEY": "secret"}
    started = Server(folder, environment={**os.environ, **given})
    started.options = ["--app-name", "basic-auth"]
    ready(started.backend)
    with started:
        yield started


def test_credentials_are_those_of_mlflow_and_wrong_ones_are_named(store, guarded, monkeypatch):
    commit(store, sweep_of(1))
    with pytest.raises(Refused, match=r"401|not authenticated"):
        synced(store, guarded.uri)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wr0ng-one")
    done = lfombench("mlflow", "sync", "--out", store.out, "--mlflow", guarded.uri)
    assert done.returncode == 1
    assert "401" in done.stderr
    assert "wr0ng" not in done.stderr
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "pass-word-1234")
    assert synced(store, guarded.uri).written == 1
    assert verified(store, guarded.uri).differences == []


def test_a_server_that_dies_before_the_first_run_is_waited_for_as_long_as_one_likes(store, server):
    """It had answered one question, and the next one ended everything."""
    jobs, of = commit(store, sweep_of(2, name="early")), identity(store.place)
    with opened(store, server.uri) as view:
        view.known()
        server.kill()
        waits: list[str] = []
        with pytest.raises(Stopped):
            sync(store.place, of, view, Told(waiting=waits.append, stop=lambda: bool(waits)))
        back = threading.Timer(2.0, server.start)
        back.start()
        work = sync(store.place, of, view)
        back.join()
    assert (work.written, work.interrupted > 0) == (2, True)
    assert by_job(store, server.uri, "early").keys() == set(jobs)


def test_what_is_deleted_already_is_no_fault(store, server):
    """A request whose answer was lost is sent again."""
    commit(store, sweep_of(1, name="gone"))
    synced(store, server.uri)
    [run] = runs(store, server.uri, "gone")
    with opened(store, server.uri) as view:
        for _ in range(2):
            view.remove([run.info.run_id, "0" * 32])
    assert runs(store, server.uri, "gone") == []
