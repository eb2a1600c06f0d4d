"""`lfombench ui` and `lfombench mlflow`: what they say, where they point, and in a real browser."""

from __future__ import annotations

import json
import re
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from lfombench.harness.store.store import Store
from tests.browser import Browser, browser_needed
from tests.commands import lfombench, words
from tests.sockets import are_loopback, listening
from tests.views import api, by_job, commit, copied, runs, sweep_of

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
)


def test_what_they_say(finished, tmp_path):
    store = copied(finished, tmp_path)
    done = lfombench("mlflow", "sync", "--out", store.out, "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["runs"], told["written"], told["removed"], told["refused"]) == (0, 20, 20, 0, {})
    assert lfombench("mlflow", "rebuild", "--out", store.out).stdout.endswith("shows 20 runs: 20 written, 0 removed\n")
    done = lfombench("mlflow", "verify", "--out", store.out)
    assert (done.returncode, done.stdout[-16:]) == (0, " no differences\n")
    api(store).set_tag(next(iter(by_job(store, experiment="small").values())).info.run_id, "solver", "mine")
    done = lfombench("mlflow", "verify", "--out", store.out)
    assert done.returncode == 3
    assert re.search(r"small, job \w+: tag solver: mine, should be ", done.stdout)
    assert len(json.loads(lfombench("mlflow", "verify", "--out", store.out, "--json").stdout)["differences"]) == 1


def test_the_experiment_says_what_it_asks_and_has_the_board_and_the_report(finished, tmp_path):
    store = copied(finished, tmp_path)
    assert lfombench("mlflow", "sync", "--out", store.out).returncode == 0
    client = api(store)
    experiment = client.get_experiment_by_name("small")
    note = experiment.tags["mlflow.note.content"]
    assert "| memformer" in note
    assert "lfombench run small --out DIR" in note
    [summary] = [run for run in runs(store, experiment="small") if "job" not in run.data.tags]
    files = {file.path for file in client.list_artifacts(summary.info.run_id)}
    assert {"board.md", "board.csv"} <= files
    before = summary.info.run_id
    assert lfombench("report", "--out", store.out).returncode == 0
    assert lfombench("mlflow", "sync", "--out", store.out).returncode == 0
    [summary] = [run for run in runs(store, experiment="small") if "job" not in run.data.tags]
    assert summary.info.run_id == before
    assert "report.html" in {file.path for file in client.list_artifacts(before)}


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("off", "--mlflow off shows nothing"),
        ("mlruns", "--mlflow mlruns: a tracking store is http://HOST:PORT"),
        ("htp://u:s3cret@host", "htp:// is no kind of tracking store; allowed: databricks, http, "),
        ("file:///x", "no kind of tracking store"),
    ],
)
def test_what_is_no_tracking_store_is_named(finished, uri, message):
    done = lfombench("mlflow", "sync", "--out", finished, "--mlflow", uri)
    assert done.returncode == 1
    assert message in done.stderr
    assert "s3cret" not in done.stderr


def test_the_environment_names_a_tracking_store_and_an_option_counts_more(finished, tmp_path, monkeypatch):
    store = copied(finished, tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/environment.db")
    done = lfombench("mlflow", "sync", "--out", store.out)
    assert f"runs are shown at sqlite:///{tmp_path}/environment.db, as MLFLOW_TRACKING_URI says" in done.stderr
    assert (tmp_path / "environment.db").exists()
    done = lfombench("mlflow", "sync", "--out", store.out, "--mlflow", f"sqlite:///{tmp_path}/option.db")
    assert f"--mlflow sqlite:///{tmp_path}/option.db counts, not MLFLOW_TRACKING_URI=" in done.stderr
    assert (tmp_path / "option.db").exists()


@pytest.fixture(scope="module")
def addresses(finished: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What `lfombench ui` prints: addresses by name."""
    command = words("ui", "--out", finished)
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    found = {"pid": str(server.pid)}
    for line in server.stdout:
        name, _, address = line.strip().partition(": ")
        found[name] = address
        if line.startswith("Ctrl-C"):
            break
    yield found
    server.send_signal(2)
    assert server.wait(30) == 0
    server.stdout.close()


@pytest.mark.slow
@pytest.mark.xdist_group("ui")
def test_ui_has_the_runs_and_the_report_at_one_address(addresses, finished):
    base = addresses["small"].partition("/#")[0]
    assert base.startswith("http://127.0.0.1:")
    listens = listening(int(addresses["pid"]))
    assert listens
    assert are_loopback(listens)
    assert addresses["report"] == f"{base}/report/"
    with urllib.request.urlopen(base, timeout=20) as page:
        assert b"<html" in page.read().lower()
    report = Path(finished) / "report" / "index.html"
    if not report.exists():
        assert lfombench("report", "--out", finished).returncode == 0
    with urllib.request.urlopen(f"{base}/report", timeout=20) as page:
        assert page.read() == report.read_bytes()


def texts(role: str, side: str) -> str:
    """An expression: the texts of the cells of a table, in their order from a side; the page has them in any order."""
    cells = f"[...document.querySelectorAll('[role={role}]')]"
    placed = f"{cells}.map(x => [x.getBoundingClientRect().{side}, x.innerText.trim()])"
    return f"{placed}.sort((a, b) => a[0] - b[0]).map(x => x[1])"


@pytest.mark.slow
@pytest.mark.xdist_group("ui")
@browser_needed("MLflow's UI")
def test_the_link_opens_the_training_view_with_the_score_in_front(addresses, finished):
    """Columns and order as a browser shows them, then a run's charts, and twenty runs compared."""
    of = runs(Store(finished), experiment="small")
    with Browser() as page:
        page.open(addresses["small"])
        page.wait("[...document.querySelectorAll('[role=row]')].length > 12")
        asked = json.dumps(["log_mse", "solver", "depth", "seed", "protocol"])
        heads = f"[...new Set({texts('columnheader', 'left')})].filter(x => {asked}.includes(x))"
        page.wait(f"JSON.stringify({heads}) == JSON.stringify({asked})")
        shown = [float(x) for x in page.evaluate(texts("gridcell", "top")) if re.fullmatch(r"-?\d+\.\d{6,}", x)]
        assert len(shown) >= 10
        assert shown == sorted(shown)
        scores = [run.data.metrics["log_mse"] for run in of if "log_mse" in run.data.metrics]
        assert shown[0] == pytest.approx(min(scores), rel=1e-3)
        base = addresses["small"].partition("?")[0]
        learned = next(run for run in of if run.data.tags.get("family") == "learned")
        page.open(f"{base}/{learned.info.run_id}/model-metrics")
        page.wait("document.querySelectorAll('.js-plotly-plot, .plotly').length >= 3")
        ids = [run.info.run_id for run in of if "job" in run.data.tags][:20]
        query = f"runs={quote(json.dumps(ids))}&experiments={quote(json.dumps([learned.info.experiment_id]))}"
        page.open(f"{base.partition('#')[0]}#/compare-runs?{query}")
        page.wait("document.body.innerText.includes('Comparing 20 Runs')")


def test_a_server_that_does_not_start_says_its_last_words(finished, tmp_path, monkeypatch):
    """It gave up after a minute, and pointed to a log that was empty."""
    from lfombench.harness.errors import UserError
    from lfombench.harness.tracking.server import free_port, served
    from lfombench.harness.tracking.uris import Where

    monkeypatch.setenv("PYTHONSTARTUP", "")
    begin = time.monotonic()
    with (
        pytest.raises(UserError, match=r"(?s)ended with exit code \d+; its last words:\n.*nonsense"),
        served(finished, Where("nonsense+odd://x"), free_port(None)),
    ):
        pass
    assert time.monotonic() - begin < 60


def test_a_store_without_runs_is_shown(store, tmp_path):
    commit(store, sweep_of(1))
    assert lfombench("mlflow", "sync", "--out", store.out).returncode == 0
    done = lfombench("mlflow", "sync", "--out", str(tmp_path / "nothing"))
    assert done.returncode == 1
    assert "Error: " in done.stderr
