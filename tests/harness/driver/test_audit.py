"""Packs against jobs alone and eager, as an audit compares them."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from lfombench.harness import PROTOCOLS, Sweep, run
from lfombench.harness.driver import audit
from lfombench.harness.store import maintenance
from lfombench.harness.store.deviation import TOLERANCE, deviation
from lfombench.harness.store.store import Store
from lfombench.harness.training.training_step import initial
from lfombench.solvers import ConjugateGradient, GdPlusPlus, LinearTransformer, Memformer
from lfombench.tasks import LinearRegression
from tests.builders import order
from tests.commands import lfombench

QUICK = replace(
    PROTOCOLS["rigorous"], steps=60, batch=32, test_prompts=512, validation_prompts=128, learning_rates=(0.03, 0.1)
)
SWEEP = Sweep(
    name="audited",
    tasks=[LinearRegression(d=3, n=6, spectrum=(1.0, 0.5, 2.0))],
    solvers=[
        ConjugateGradient(depth=3),
        LinearTransformer(depth=2, preconditioner="full"),
        Memformer(depth=2, memory="cgd", preconditioner="scalar"),
        GdPlusPlus(depth=1),
    ],
    protocols=[QUICK],
    seeds=range(3),
)


def test_compiled_packs_and_jobs_alone_and_eager_agree(tmp_path):
    """All jobs of a sweep, by machine code at full width, within the tolerance that the README states."""
    full = replace(QUICK, steps=300, batch=300, test_prompts=131_072)  # enough for compilation to pay
    summary = run(replace(SWEEP, protocols=[full], seeds=range(1)), str(tmp_path), workers=0, mlflow="off", audit=1.0)
    assert summary.exit_code == 0
    assert summary.audit.jobs == 4
    assert summary.audit.rows == 4 + 3 + 3 + 2
    assert 0 < summary.audit.largest <= TOLERANCE
    assert not summary.audit.unstable
    assert json.loads((tmp_path / "audits/audited.json").read_text())["largest"] == summary.audit.largest


@pytest.mark.slow
@pytest.mark.parametrize("name", ["published", "rigorous"])
def test_full_training_agrees_with_itself_alone_and_eager(name, tmp_path):
    """The published protocol at full length and two cycles of the rigorous one, on the model that varies most."""
    solver = LinearTransformer(depth=2, preconditioner="full")
    protocol = replace(PROTOCOLS[name], learning_rates=(0.01,), test_prompts=16_384)
    if name == "rigorous":
        protocol = replace(protocol, cycle=250, steps=500)
    sweep = replace(SWEEP, solvers=[solver], protocols=[protocol], seeds=range(2))
    found = run(sweep, str(tmp_path), workers=0, mlflow="off", audit=0.5).audit
    assert found.passed
    assert not found.unstable


def test_an_audit_finds_what_was_changed(tmp_path):
    """Results that do not come from these equations: exit code 3, and the row named."""
    small = replace(SWEEP, solvers=SWEEP.solvers[:1], seeds=range(1))
    assert run(small, str(tmp_path), workers=0, mlflow="off").exit_code == 0
    store = Store(str(tmp_path))

    def tampered(rows):
        other = [row | {"mse": row["mse"] * (2 if row["step"] == 2 else 1)} for row in rows.to_pylist()]
        return pa.Table.from_pylist(other, schema=rows.schema)

    maintenance.rewrite(store, "results", store.snapshot.files["results"], tampered)
    summary = run(small, str(tmp_path), workers=0, mlflow="off", audit=1.0)
    assert summary.exit_code == 3
    assert summary.audit.largest == pytest.approx(0.693, abs=1e-3)
    assert "step 2" in summary.audit.where
    assert "BEYOND" in str(summary.audit)


@pytest.mark.parametrize(("moved", "passed"), [(0.5, True), (1e-6, False)])
def test_a_job_whose_end_is_decided_by_rounding_is_told_apart(moved, passed):
    """As written it ends elsewhere; so it does from a start that differs in its last digits, or it does not."""
    entries = list(replace(SWEEP, solvers=SWEEP.solvers[1:2], seeds=range(1)).entries())
    [(job, _)] = entries

    def row(job, log_mse):
        names = {"solver": "linear_transformer", "depth": 2, "seed": 0, "protocol": "quick"}
        loss = math.exp(log_mse)
        return names | {"job": job.id, "test": "own", "step": 2, "mse": loss, "mse_normalised": loss}

    def run(packs):
        return [row(one, 0.3 if pack.eager else moved * k) for pack in packs for k, one in enumerate(pack.pack.jobs)]

    found = audit.run_again(entries, 1.0, lambda ids: [row(job, 0.0)], run)
    assert found.passed == passed
    assert len(found.unstable) == passed
    assert found.largest == (0.0 if passed else pytest.approx(0.3))
    assert ("unstable" in str(found)) == passed


def test_a_job_that_fails_when_it_runs_again_is_never_excused():
    entries = list(replace(SWEEP, solvers=SWEEP.solvers[1:2], seeds=range(1)).entries())
    [(job, _)] = entries
    row = {"job": job.id, "test": "own", "step": 2, "mse": 1.0, "mse_normalised": 1.0}
    row |= {"solver": "linear_transformer", "depth": 2, "seed": 0, "protocol": "quick"}
    found = audit.run_again(entries, 1.0, lambda ids: [row], lambda packs: [])
    assert not found.passed
    assert found.largest == math.inf
    assert found.unstable == []


def test_a_nudge_changes_parameters_in_their_last_digits():
    [(job, _)] = list(replace(SWEEP, solvers=SWEEP.solvers[1:2], seeds=range(1)).entries())
    first, *others = (initial(order([one]), torch.device("cpu"))["A"] for one in (job, *audit.nudged(job)))
    for other in others:
        changed = ((other - first) / first).abs()
        assert 0 < changed.max() < 1e-6


def test_a_share_is_the_same_jobs_every_time_and_at_least_one():
    jobs = list(SWEEP.entries())
    assert audit.sample(jobs, 0.25) == audit.sample(jobs[::-1], 0.25)
    assert len(audit.sample(jobs, 0.25)) == 3
    assert len(audit.sample(jobs, 1e-9)) == 1


def test_errors_that_are_only_rounding_are_not_compared():
    row = {"mse": 1e-30, "mse_normalised": 1e-31}
    assert deviation(row, {"mse": 1e-28, "mse_normalised": 1e-29}) == 0
    assert deviation(row, {"mse": None, "mse_normalised": None}) == float("inf")
    assert deviation({"mse": None, "mse_normalised": None}, {"mse": None, "mse_normalised": None}) == 0


def test_the_command_line_audits_and_profiles(tmp_path):
    path, out = tmp_path / "tiny.yaml", str(tmp_path / "out")
    path.write_text(
        "name: tiny\nseeds: 2\nprotocol: {use: published, steps: 20, batch: 50, test_prompts: 256}\n"
        "tasks: [linear_regression: {d: 3, n: 8}]\n"
        "solvers: [conjugate_gradient: {depth: 2}, linear_transformer: {preconditioner: full, depth: 2}]\n"
    )
    arguments = ["run", str(path), "--out", out, "--workers", "0", "--mlflow", "off"]
    done = lfombench(*arguments, "--audit", "0.5", "--profile")
    assert done.returncode == 0, done.stderr
    assert "audit: 2 of the jobs run again alone and eagerly" in done.stdout
    assert "where the workers' time went" in done.stdout
    for part in ("draw", "forward", "backward", "test", "commit (driver)", "idle"):
        assert part in done.stdout
    trace = json.loads(Path(out, "profile/tiny.json").read_text())["traceEvents"]
    assert {"draw", "forward", "backward", "optimiser", "test", "rows", "commit"} <= {event["name"] for event in trace}
    assert all(event["dur"] >= 0 and event["ts"] >= 0 for event in trace if event["ph"] == "X")
    [driver] = [event["tid"] for event in trace if event["ph"] == "M" and event["args"]["name"] == "driver"]
    assert {event["name"] for event in trace if event["ph"] == "X" and event["tid"] == driver} == {"commit"}
    assert {event["tid"] == driver for event in trace if event["name"] == "commit"} == {True}
    again = lfombench(*arguments, "--audit", "2")
    assert again.returncode == 2
    assert "--audit" in again.stderr


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_a_protocol_names_its_dtype_and_boards_show_it(dtype, tmp_path):
    from lfombench.analysis.assemble import boards
    from lfombench.analysis.results import Tables, sweeps

    protocol = replace(QUICK, dtype=dtype)
    sweep = replace(SWEEP, protocols=[QUICK, protocol], solvers=SWEEP.solvers[1:3])
    assert run(sweep, str(tmp_path), workers=0, mlflow="off").exit_code == 0
    plain, other = boards(Tables(str(tmp_path)), *sweeps(str(tmp_path))).boards
    assert f"dtype={dtype}" in other.protocol
    for row in plain.rows:
        [same] = [r for r in other.rows if r.solver == row.solver]
        difference = abs(row.cells[2].mean - same.cells[2].mean)
        assert 0 < difference < 0.3  # the start differs too: it is the job's own
