"""A view in a real PostgreSQL database."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from lfombench.harness.errors import UserError
from lfombench.harness.store.store import Store
from lfombench.harness.tracking.opened import open_view
from lfombench.harness.tracking.sql import SqlView
from lfombench.harness.tracking.uris import where
from lfombench.harness.tracking.view import Unreachable
from tests.commands import lfombench, words
from tests.postgresql import PASSWORD, PostgreSQL, needed
from tests.views import api, by_job, commit, copied, opened, other_task, runs, sweep_of, synced, verified

pytestmark = [
    needed(),
    pytest.mark.slow,
    pytest.mark.xdist_group("postgresql"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgreSQL]:
    """A server with a database that was empty, until a view was opened there."""
    with PostgreSQL() as started:
        started.execute("CREATE DATABASE template")
        at = where(str(tmp_path_factory.mktemp("template")), started.uri("template"), lambda text: None)
        assert at
        view = open_view(at, "nobody", lambda text: None)
        assert isinstance(view, SqlView)
        view.close()
        started.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'template'")
        yield started


@pytest.fixture
def uri(server: PostgreSQL, request: pytest.FixtureRequest) -> str:
    """A database of its own."""
    name = f"d{abs(hash(request.node.name))}"
    server.execute(f"CREATE DATABASE {name} TEMPLATE template")
    return server.uri(name)


def test_it_shows_what_the_store_has(finished, tmp_path, uri):
    store = copied(finished, tmp_path)
    with opened(store, uri) as view:
        assert isinstance(view, SqlView)
    assert (synced(store, uri).written, verified(store, uri).differences) == (20, [])
    assert synced(store, uri).written == 0
    assert synced(store, uri, anew=True).written == 20
    assert len(by_job(store, uri, "small")) == 20
    assert verified(store, uri).differences == []


def test_values_that_it_refuses_are_mapped(store, uri):
    """A run's name of 260 characters, NUL, and what COPY reads otherwise ended everything."""
    wide = other_task(spectrum=tuple(1 + i / 7 for i in range(30)), d=30)
    commit(store, sweep_of(1), (wide,))
    odd = "a\tb\\N\nc\rd\0e" + "\U0001f600" * 9000
    columns = {"reason": pl.lit(odd), "solver": pl.lit(f"long({'x=' + 'y' * 300})")}
    rows = pl.DataFrame(pl.from_arrow(jobs_of(store))).with_columns(**columns)
    store.add({"jobs": rows.to_arrow().cast(jobs_of(store).schema)})
    work = synced(store, uri)
    assert (work.written, work.refused) == (1, {})
    assert verified(store, uri).differences == []
    [shown] = by_job(store, uri).values()
    assert len(shown.info.run_name) <= 250


def jobs_of(store: Store):
    from lfombench.harness.store import queries

    return queries.table(store.place, "jobs")


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_every_way_to_write_its_address_is_taken(store, server, uri, scheme):
    """`postgres://` gave an error about model registries."""
    commit(store, sweep_of(1))
    assert synced(store, uri.replace("postgresql", scheme)).written == 1
    assert len(runs(store, uri)) == 1


def test_no_password_is_shown(store, server, uri):
    commit(store, sweep_of(1))
    wrong = server.uri("template", password="s3cr et")
    with pytest.raises(Unreachable, match="password authentication failed") as refused:
        synced(store, wrong)
    assert "s3cr" not in str(refused.value)
    for words_ in (["sync"], ["verify"], ["rebuild"]):
        done = lfombench("mlflow", *words_, "--out", store.out, "--mlflow", wrong)
        assert done.returncode == 1
        assert "s3cr" not in done.stdout + done.stderr
        assert "lfom:***@" in done.stderr
    done = lfombench("mlflow", "sync", "--out", store.out, "--mlflow", uri)
    assert done.returncode == 0
    assert PASSWORD not in done.stdout + done.stderr
    assert "p%40ss" not in done.stdout + done.stderr


def test_a_database_of_something_else_or_none_is_named(store, server):
    commit(store, sweep_of(1))
    server.execute("CREATE DATABASE other")
    server.execute("CREATE TABLE people (name text)", "other")
    with pytest.raises(UserError, match="is a database of something else"):
        synced(store, server.uri("other"))
    with pytest.raises(Unreachable, match='database "nowhere" does not exist'):
        synced(store, server.uri("nowhere"))


def test_two_writers_give_every_job_one_run(finished, tmp_path, uri):
    """Held until both have begun, they wrote every job twice."""
    store = copied(finished, tmp_path)
    command = words("mlflow", "rebuild", "--out", store.out, "--mlflow", uri, "--json")
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    told = [one.communicate(timeout=100)[0] for one in both]
    assert [json.loads(each)["written"] for each in told] == [20, 20]
    assert len(by_job(store, uri, "small")) == 20
    assert verified(store, uri).differences == []


def test_what_others_have_noted_on_our_runs_stays(store, uri):
    """A row that their tags stand on cannot be deleted here."""
    [job] = commit(store, sweep_of(1))
    synced(store, uri)
    api(store, uri).set_tag(by_job(store, uri)[job].info.run_id, "favourite", "yes")
    assert synced(store, uri, anew=True).written == 1
    assert by_job(store, uri)[job].data.tags["favourite"] == "yes"
    assert verified(store, uri).differences == []


def test_one_that_stops_and_comes_back_is_waited_for(store, server, uri):
    jobs = commit(store, sweep_of(5))
    with opened(store, uri) as view:
        server.stop()
        with pytest.raises(Unreachable):
            view.known()
    server.start()
    assert synced(store, uri).written == 5
    assert by_job(store, uri).keys() == set(jobs)


def test_artifacts_go_beside_the_store_and_never_into_the_working_directory(finished, tmp_path, server, monkeypatch):
    """MLflow's own choice for a database that was empty is a folder of where it runs."""
    monkeypatch.chdir(tmp_path)
    store = copied(finished, tmp_path)
    server.execute("CREATE DATABASE artifacts")
    uri = server.uri("artifacts")
    with opened(Store(str(tmp_path / "first")), uri):
        pass  # a store that was first there has no say in where others keep theirs
    done = lfombench("mlflow", "sync", "--out", store.out, "--mlflow", uri)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {Path(store.out).name, "first"}
    [summary] = [run for run in runs(store, uri, "small") if "job" not in run.data.tags]
    assert summary.info.artifact_uri.startswith((Path(store.out) / "artifacts").as_uri())
    assert "board.md" in {file.path for file in api(store, uri).list_artifacts(summary.info.run_id)}
