"""Looking after a store: why, diff, merge, prune."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from click.testing import CliRunner

from lfombench.analysis.results import table
from lfombench.harness import PROTOCOLS, Sweep, run
from lfombench.harness.cli.main import cli
from lfombench.harness.driver.explain import explain
from lfombench.harness.driver.manifests import record_sweep
from lfombench.harness.store import maintenance, side_files
from lfombench.harness.store.manifest import jobs_by_sweep
from lfombench.harness.store.merge import contradictions
from lfombench.harness.store.store import Store
from lfombench.harness.training.execute import failure
from lfombench.harness.training.pack import Pack
from lfombench.solvers import ConjugateGradient, LinearTransformer
from lfombench.tasks import LinearRegression

QUICK = replace(PROTOCOLS["rigorous"], steps=2, batch=4, learning_rates=(0.1,), test_prompts=64)
TASK = LinearRegression(d=2, n=3)
SWEEP = Sweep(
    name="one",
    tasks=[TASK],
    solvers=[ConjugateGradient(depth=1), LinearTransformer(depth=1, preconditioner="full")],
    protocols=[QUICK],
    seeds=range(2),
)


def lfombench(*arguments: str, exits: int = 0) -> str:
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == exits, done.output
    return done.output


@pytest.fixture
def out(tmp_path) -> str:
    assert run(SWEEP, str(tmp_path / "out"), workers=0, mlflow="off").exit_code == 0
    return str(tmp_path / "out")


def test_why_says_what_became_of_a_job(out):
    store = Store(out)
    more = replace(SWEEP, seeds=range(4))
    record_sweep(store, more)
    first, *_, failed, never = (job for job in more.jobs() if job.solver.family == "learned")
    store.commit([failure(Pack((failed,)), None, "Traceback: it broke")])
    assert lfombench("why", first.id, "--out", out).startswith(f"{first.id}: done. Results on 1 test.\n")
    told = json.loads(lfombench("why", first.id[:12], "--out", out, "--json"))
    assert (told["state"], told["wanted"]) == ("done", "one")
    assert told["what"].startswith("linear_transformer(preconditioner=full) depth 1 seed 0 on linear_regression")
    assert explain(store, failed.id)["reason"] == "Traceback: it broke"
    assert explain(store, never.id)["state"] == "never ran"
    side_files.keep_code(store.place, {"old": {"solvers/base.py:Solver": "x"}})

    def older(rows: pa.Table) -> pa.Table:
        at = rows.column_names.index("code")
        return rows.set_column(at, rows.schema.field(at), pa.array(["old"] * len(rows)))

    maintenance.rewrite(store, "results", store.snapshot.files["results"], older)
    told = explain(Store(out), first.id)
    assert told["state"] == "stale"
    assert "solvers/base.py:Solver" in told["because"]


@pytest.mark.parametrize(("given", "says"), [("zz", "no job of"), ("", "begins the ids of 4 jobs")])
def test_why_of_what_is_no_job(out, given, says):
    done = CliRunner().invoke(cli, ["why", given, "--out", out])
    assert says in str(done.exception)


def test_diff_counts_what_two_sweeps_share(tmp_path):
    text = """\
name: here
protocol: {use: rigorous, steps: 2}
seeds: 3
tasks: [linear_regression: {d: 2, n: 3}]
solvers: [conjugate_gradient: {depth: {each: [1, 2]}}, newton: {depth: 1}]
"""
    for name, old, new in (("a", "", ""), ("b", "seeds: 3", "seeds: 4"), ("c", "newton", "ridge")):
        (tmp_path / f"{name}.yaml").write_text(text.replace(old, new))
    a, b, c = (str(tmp_path / f"{name}.yaml") for name in "abc")
    assert lfombench("sweeps", "diff", a, a) == f"0 jobs only in {a}, 9 in both, 0 only in {a}\n"
    assert lfombench("sweeps", "diff", a, b).endswith(f"0 jobs only in {a}, 9 in both, 3 only in {b}\n")
    rows = json.loads(lfombench("sweeps", "diff", a, c, "--json"))
    assert [(row["solver"], row["depths"], row["first"], row["both"], row["second"]) for row in rows] == [
        ("conjugate_gradient", [1, 2], 0, 6, 0),
        ("newton", [1], 3, 0, 0),
        ("ridge", [1], 0, 0, 3),
    ]


def test_prune_removes_what_no_sweep_wants_once_it_is_told_to(out):
    run(replace(SWEEP, seeds=range(1)), out, workers=0, mlflow="off")
    assert "would remove: 2 jobs that no sweep wants" in lfombench("prune", "--out", out)
    assert table(out, "results").collect()["job"].n_unique() == 4
    assert "removed: 2 jobs" in lfombench("prune", "--out", out, "--yes")
    for name in ("results", "jobs"):
        assert table(out, name).collect()["job"].n_unique() == 2, name
    for name in ("curves", "weights"):
        assert table(out, name).collect()["job"].n_unique() == 1, name
    assert "would remove: 0 jobs" in lfombench("prune", "--out", out)
    assert run(SWEEP, out, workers=0, mlflow="off").ran == 2


def test_merge_unites_stores(out, tmp_path):
    """What one lacks is added: jobs, further tests of a job, and what sweeps want."""
    other, both = str(tmp_path / "other"), str(tmp_path / "both")
    more = replace(SWEEP, seeds=range(1, 4), tests=[LinearRegression(d=2, n=8)])
    run(more, other, workers=0, mlflow="off")
    assert lfombench("merge", out, other, "--out", both).splitlines() == [
        f"{out}: 4 jobs added to {both}",
        f"{other}: 4 jobs added to {both}",
    ]
    rows = table(both, "results").collect()
    assert len(rows) == len(rows.unique(["job", "test", "step"])) == 2 * 2 * (1 + 3 * 2)
    assert jobs_by_sweep(Store(both).place)["one"] == [job.id for s in (SWEEP, more) for job in s.jobs()][:4] + [
        job.id for job in more.jobs() if job.seed > 1
    ]
    assert run(replace(more, seeds=range(4)), both, workers=0, mlflow="off").ran == 2  # the test that seed 0 lacks
    assert "0 jobs added" in lfombench("merge", out, "--out", both)


def test_merge_refuses_what_contradicts_and_shows_both_rows(out, tmp_path):
    other = str(tmp_path / "other")
    lfombench("merge", out, "--out", other)
    store = Store(other)

    def tampered(rows: pa.Table) -> pa.Table:
        changed = [row | {"mse": row["mse"] * 1.01} for row in rows.to_pylist()]
        return pa.Table.from_pylist(changed, schema=rows.schema)

    maintenance.rewrite(store, "results", store.snapshot.files["results"], tampered)
    assert len(contradictions(Store(out), Store(other))) == 4 * 2
    before = sorted(Path(out).rglob("*.parquet"))
    told = lfombench("merge", other, "--out", out, exits=1)
    assert "8 contradictions; nothing was added" in told
    assert "conjugate_gradient" in told
    lfombench("merge", out, other, "--out", str(Path(out).parent / "fresh"), exits=1)  # neither is the target
    assert sorted(Path(out).rglob("*.parquet")) == before


def test_what_is_no_store_is_refused(tmp_path):
    for command in (["why", "x"], ["prune"]):
        done = CliRunner().invoke(cli, [*command, "--out", str(tmp_path)])
        assert "holds no results yet" in str(done.exception)
    done = CliRunner().invoke(cli, ["merge", str(tmp_path), "--out", str(tmp_path / "x")])
    assert "holds no results yet" in str(done.exception)
