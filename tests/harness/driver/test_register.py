"""A trained job as a model: registered, loaded, and served by MLflow."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import numpy as np
import polars as pl
import pytest

from lfombench.analysis.results import table
from tests.commands import lfombench
from tests.views import by_job, copied, runs, verified

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def registered(finished, tmp_path_factory):
    """A store, a job in it, and the URI of its model."""
    store = copied(finished, tmp_path_factory.mktemp("registered"))
    assert lfombench("mlflow", "sync", "--out", store.out).returncode == 0
    jobs = table(store.out, "jobs").filter(pl.col("solver").str.starts_with("linear_transformer(preconditioner=full"))
    job = jobs.collect()["job"][0]
    done = lfombench("mlflow", "register", job[:12], "--out", store.out, "--name", "mine")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("models:/mine/1")
    return store, job, f"sqlite:///{store.out}/mlflow.db"


@pytest.fixture(autouse=True)
def other_uris_stay():
    """MLflow's functions for models know one tracking URI, which they also write into the environment."""
    import mlflow

    yield
    mlflow.set_tracking_uri(None)


def expected(store, job, X, y, query):
    """Two layers of a linear transformer on the Gram matrix, in NumPy."""
    rows = table(store.out, "weights").filter(pl.col("job") == job).collect().to_dicts()
    [A] = [np.array(row["values"]).reshape(row["shape"]) for row in rows]
    G, b = np.einsum("pni,pnj->pij", X, X) / X.shape[1], np.einsum("pni,pn->pi", X, y) / X.shape[1]
    w, answers = np.zeros_like(b), [np.zeros(len(b))]
    for layer in A:
        w = w - np.einsum("ij,pj->pi", layer, np.einsum("pij,pj->pi", G, w) - b)
        answers.append((w * query).sum(1))
    return np.stack(answers, 1)


def test_it_loads_and_predicts_without_a_pickle(registered):
    import mlflow

    store, job, uri = registered
    mlflow.set_tracking_uri(uri)
    model = mlflow.pyfunc.load_model("models:/mine/1")
    random = np.random.default_rng(0)
    X, y, query = random.normal(size=(3, 8, 3)), random.normal(size=(3, 8)), random.normal(size=(3, 3))
    found = model.predict({"X": X, "y": y, "query": query})
    assert found.shape == (3, 3)
    np.testing.assert_allclose(found, expected(store, job, X, y, query), rtol=1e-5, atol=1e-7)
    assert {spec.name for spec in model.metadata.signature.inputs} == {"X", "y", "query"}
    files = [file for _, _, names in os.walk(f"{store.out}/artifacts/models") for file in names]
    assert "served.py" in files
    assert not [file for file in files if file.endswith((".pkl", ".pickle", ".pt"))]


def test_its_run_has_it_and_nothing_else_changed(registered):
    import mlflow

    store, job, uri = registered
    mlflow.set_tracking_uri(uri)
    run = by_job(store, experiment="small")[job]
    [model] = mlflow.search_logged_models([run.info.experiment_id], output_format="list")
    assert (model.source_run_id, model.params["job"]) == (run.info.run_id, job)
    assert len(runs(store, experiment="small")) == 21
    assert verified(store).differences == []


def test_it_is_served(registered):
    store, job, uri = registered
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", "models:/mine/1", "--env-manager", "local"]
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": uri,
        "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}",
    }
    server = subprocess.Popen(
        [*command, "-p", str(port)], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    X, y, query = [[[1.0, 0, 0], [0, 2, 0]]], [[1.0, 2.0]], [[1.0, 1.0, 1.0]]
    content = json.dumps({"inputs": {"X": X, "y": y, "query": query}}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations", content, {"Content-Type": "application/json"}
    )
    try:
        for _ in range(300):
            try:
                with urllib.request.urlopen(request, timeout=20) as answer:
                    [found] = json.load(answer)["predictions"]
                break
            except urllib.error.URLError:
                assert server.poll() is None
                time.sleep(0.2)
        right = expected(store, job, *(np.array(x) for x in (X, y, query)))[0]
        np.testing.assert_allclose(found, right, rtol=1e-5, atol=1e-7)
    finally:
        os.killpg(server.pid, 9)
        server.wait()


def test_what_cannot_be_registered_is_named(registered):
    store, _, _ = registered
    done = lfombench("mlflow", "register", "nonsense", "--out", store.out)
    assert (done.returncode, "no job of" in done.stderr) == (1, True)
