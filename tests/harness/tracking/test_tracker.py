"""The MLflow view, read back through MLflow's public API and its real server."""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from lfombench.analysis.results import table
from lfombench.harness import load, run
from lfombench.harness.tracking.tracker import thinned

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
)


def client(uri: str):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def test_every_job_is_a_run_with_its_curve_and_losses(finished):
    api = client(f"sqlite:///{finished}/mlflow.db")
    experiment = api.get_experiment_by_name("small")
    runs = api.search_runs([experiment.experiment_id], max_results=100)
    results = table(finished, "results").collect()
    assert {r.data.tags["job"] for r in runs} == set(results["job"])
    assert len(runs) == 20
    chosen = next(r for r in runs if r.data.params["solver"] == "memformer" and r.data.params["solver.depth"] == "2")
    job = chosen.data.tags["job"]
    assert chosen.info.status == "FINISHED"
    assert chosen.data.params["task.d"] == "3"
    assert chosen.data.tags["sweep"] == "small"
    name = chosen.data.tags["mlflow.runName"]
    assert re.fullmatch(r"memformer L2 s[01] \w+ \(memory=cgd, preconditioner=full\) .*", name), name
    ours = results.filter(results["job"] == job).sort("step")
    shown = api.get_metric_history(chosen.info.run_id, "log_mse_by_step")
    assert {m.step: m.value for m in shown} == dict(zip(ours["step"], ours["log_mse"], strict=True))
    assert chosen.data.metrics["log_mse"] == ours["log_mse"][-1]
    curve = table(finished, "curves").collect()
    assert len(api.get_metric_history(chosen.info.run_id, "loss")) == len(curve.filter(curve["job"] == job))


def test_the_database_is_in_wal_mode(finished):
    with sqlite3.connect(f"{finished}/mlflow.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


@pytest.mark.slow
def test_the_view_is_rebuilt_from_the_store_and_never_doubled(finished, small, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy, ignore=shutil.ignore_patterns("mlflow.db*"))
    for _ in range(2):
        assert run(load(str(small)), str(copy), workers=0).mlflow_error is None
    api = client(f"sqlite:///{copy}/mlflow.db")
    assert len(api.search_runs([api.get_experiment_by_name("small").experiment_id])) == 20


@pytest.mark.slow
def test_ui_serves_the_runs_and_a_server_can_be_written_to(finished, small, tmp_path):
    """`lfombench ui` prints an address that answers; the same server takes another store's runs over HTTP."""
    command = [sys.executable, "-m", "lfombench", "ui", "--out", finished]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        lines = [server.stdout.readline() for _ in range(2)]
        name, _, address = lines[1].strip().partition(": ")
        assert name == "small"
        base = address.partition("/#")[0]
        assert base.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(base, timeout=10) as page:
            assert b"<html" in page.read().lower()
        small.write_text(small.read_text().replace("name: small", "name: elsewhere"))
        summary = run(load(str(small)), str(tmp_path / "out"), workers=0, mlflow=base)
        assert summary.mlflow_error is None
        api = client(base)
        assert len(api.search_runs([api.get_experiment_by_name("elsewhere").experiment_id])) == 20
    finally:
        server.send_signal(2)
        assert server.wait(20) == 0
        server.stdout.close()


def test_a_server_that_is_not_there_does_not_stop_the_sweep(small, tmp_path):
    begin = time.monotonic()
    summary = run(load(str(small)), str(tmp_path / "out"), workers=0, mlflow="http://127.0.0.1:1")
    assert summary.done == 20
    assert "Connection" in summary.mlflow_error or "retries" in summary.mlflow_error
    assert time.monotonic() - begin < 60
    assert not Path(tmp_path / "out" / "mlflow.db").exists()


@pytest.mark.parametrize("count", [0, 1, 2, 20, 21, 100, 101])
def test_curves_are_thinned_to_some_twenty_points_with_both_ends(count):
    rows = [{"step": step} for step in range(count)]
    kept = [row["step"] for row in thinned(rows)]
    assert len(kept) == len(set(kept)) <= 21
    assert kept[:1] == [0][:count]
    assert kept[-1:] == [count - 1][:count]
    assert len(kept) >= min(count, 11)
