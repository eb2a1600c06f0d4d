"""What is behind one number, run again."""

from __future__ import annotations

import json
import shutil

import polars as pl
import pyarrow as pa
import pytest

from lfombench.harness import load, run
from lfombench.harness.driver.reproduce import reproduce
from lfombench.harness.errors import UserError
from lfombench.harness.spec.named import task_of
from lfombench.harness.store.maintenance import rewrite
from lfombench.harness.store.store import Store
from tests.builders import CLOSED
from tests.commands import lfombench

CELL = "memformer(memory=cgd, preconditioner=full)@2"
PUBLISHED = "published(steps=20, batch=50, test_prompts=256)"


def test_a_cell_comes_out_the_same(finished):
    found = reproduce(Store(finished), CELL, protocol=PUBLISHED)
    assert found.passed
    assert found.words == "equal to the bit: 2 of 2 jobs"
    assert [job.seed for job in found.jobs] == [0, 1]
    assert all(job.stored == job.now for job in found.jobs)


def test_a_job_by_the_beginning_of_its_id(finished):
    job = reproduce(Store(finished), CELL, protocol=PUBLISHED).jobs[0].job
    [again] = reproduce(Store(finished), job[:12]).jobs
    assert (again.job, again.verdict) == (job, "equal")


def changed(finished, tmp_path, name, column, change):
    shutil.copytree(finished, tmp_path / "changed")
    store = Store(str(tmp_path / "changed"))

    def other(rows):
        frame = pl.DataFrame(pl.from_arrow(rows)).with_columns(change(pl.col(column)))
        return pa.Table.from_pylist(frame.to_dicts(), schema=rows.schema)

    assert rewrite(store, name, store.snapshot.files[name], other)
    return store


def test_a_number_that_was_changed_is_different(finished, tmp_path):
    store = changed(finished, tmp_path, "results", "mse", lambda mse: mse * 1.5)
    found = reproduce(store, CELL, protocol=PUBLISHED)
    assert not found.passed
    assert found.words.startswith("different: 2 of 2 jobs deviate by more than 0.001 in log error, by 4.1e-01")
    done = lfombench("reproduce", CELL, "--protocol", PUBLISHED, "--out", store.out, "--json")
    assert done.returncode == 3
    assert [job["verdict"] for job in json.loads(done.stdout)["jobs"]] == ["different", "different"]


def test_a_rounding_is_within_tolerance_and_the_difference_of_machines_is_told(finished, tmp_path):
    store = changed(finished, tmp_path, "results", "mse", lambda mse: mse * (1 + 1e-9))
    old = pl.lit("lfombench 0.0").alias("version")
    store = changed(store.out, tmp_path / "b", "jobs", "version", lambda _: old)
    done = lfombench("reproduce", CELL, "--protocol", PUBLISHED, "--out", store.out)
    assert done.returncode == 0
    assert "within tolerance: the largest deviation is 1.0e-09" in done.stdout
    assert "versions: lfombench 0.0 then" in done.stdout


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (CELL, "is on several boards: say which with --protocol, one of published.*; rigorous"),
        ("memformer@2", "no solver 'memformer'.*did you mean"),
        ("memformer(memory=cgd, preconditioner=full)@9", "has no results at depth 9"),
        ("eee0", "no job of .* has an id that begins with 'eee0'; it knows 20"),
        ("zzz", "'zzz' is neither a job's id, of digits and a to f, nor a cell, SOLVER@DEPTH"),
        ("conjugate_gradient", "nor a cell, SOLVER@DEPTH"),
    ],
)
def test_what_is_not_there(finished, what, message):
    with pytest.raises(UserError, match=message):
        reproduce(Store(finished), what)


def test_a_cell_of_several_draws_is_all_of_them(tmp_path):
    """A board shows them as one number, under the protocol without its data seed."""
    (tmp_path / "drawn.yaml").write_text(
        CLOSED.replace("test_prompts: 64", "test_prompts: 64, data_seed: {each: [3, 4]}")
    )
    assert run(load(str(tmp_path / "drawn.yaml")), str(tmp_path / "out"), workers=0, mlflow="off").exit_code == 0
    store = Store(str(tmp_path / "out"))
    found = reproduce(store, "conjugate_gradient@1", protocol="published(test_prompts=64)")
    assert found.words == "equal to the bit: 20 of 20 jobs"
    one = reproduce(store, "conjugate_gradient@1", protocol="published(data_seed=4, test_prompts=64)")
    assert one.words == "equal to the bit: 10 of 10 jobs"


def test_a_cell_of_a_shifted_test_runs_again_on_that_test(tmp_path):
    shifted = "linear_regression(d=3, n=8, noise=0.5, covariates=student_t, degrees=6)"
    tests = "tests: [linear_regression: {d: 3, n: 8, noise: 0.5, covariates: student_t, degrees: 6}]\n"
    (tmp_path / "tested.yaml").write_text(CLOSED + tests)
    assert run(load(str(tmp_path / "tested.yaml")), str(tmp_path / "out"), workers=0, mlflow="off").exit_code == 0
    store = Store(str(tmp_path / "out"))
    found = reproduce(store, "conjugate_gradient@2", test=shifted)
    assert found.words == "equal to the bit: 10 of 10 jobs"
    assert found.what.endswith(f"tested on {shifted}, published(test_prompts=64)")
    assert found.jobs[0].now != reproduce(store, "conjugate_gradient@2").jobs[0].now
    with pytest.raises(UserError, match="has no results on 'moon'"):
        reproduce(store, "conjugate_gradient@2", test="moon")
    html = lfombench("report", "--out", store.out)
    assert html.returncode == 0
    assert f'data-test="{shifted}"' in (tmp_path / "out" / "report" / "index.html").read_text()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("union(d=5, n=20, components=[noise=0.1, noise=0.6] #7612)", "which leaves something out"),
        ("linear_regression(d=5, n=)", "cannot be made again from its name"),
        ("linear_regresion(d=5, n=20)", "did you mean 'linear_regression'"),
        ("linear_regression(d=5, n=20, moise=3)", "cannot be made again from its name"),
        ("linear_regression(d=5, n=20, noise=0.0)", "which leaves something out"),
    ],
)
def test_names_that_are_no_task(name, message):
    with pytest.raises(UserError, match=message):
        task_of(name)
