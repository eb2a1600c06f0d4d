"""What a run shows: its name, its texts within MLflow's limits, its curve; and that a change of it is noticed."""

from __future__ import annotations

import hashlib
import json
import math
import re
from datetime import UTC, datetime

import pytest

from lfombench.harness.tracking.fitted import KEY, TAG, Fitted, finite
from lfombench.harness.tracking.page import COLUMNS, NOTE, Page, table_view
from lfombench.harness.tracking.shown import SHORT, VERSION, flat, run_name, shown, text, thinned

JOB = {
    "job": "abc",
    "status": "done",
    "reason": None,
    "task": "linear_regression(d=5, n=20)",
    "solver": "memformer(memory=cgd, preconditioner=full)",
    "depth": 4,
    "protocol": "published(steps=10)",
    "seed": 2,
    "spec": json.dumps(
        {
            "task": {"linear_regression": {"d": 5, "noise": 0.5, "spectrum": [1.0, 0.5], "mean": None}},
            "solver": {"memformer": {"depth": 4, "memory": "cgd"}},
            "protocol": {"use": "published", "steps": 10},
            "seed": 2,
        }
    ),
    "tuned": '{"step": 0.25}',
    "code": "code",
    "pack": "pack",
    "pack_jobs": 5,
    "pack_seconds": 1.5,
    "finished": datetime(2026, 1, 1, tzinfo=UTC),
    **dict.fromkeys(("trials", "steps", "train_prompts", "budget", "labels", "params"), 7),
    **{"learning_rate": 0.01, "engine": "eager", "device": "cpu", "host": "here"},
}
LOSS = {"family": "learned", "depth": 4, "mse": 1.0, "log_mse": 0.0, "mse_normalised": 0.5}
LOSS |= {"median": 0.1, "q90": 0.2, "q99": 0.3, "failure_rate": 0.0}
LOSSES = [LOSS | {"test": test, "step": step} for test in (JOB["task"], "shifted(d=5)") for step in (3, 4)]
CURVE = [{"step": step, "loss": 1 / step, "gradient_norm": math.inf} for step in range(1, 4)]


def test_a_change_of_what_is_shown_raises_the_version():
    """Else runs that older versions wrote would stay as they are. Where this fails: raise VERSION."""
    run = shown("sweep", "store", "digest", JOB, LOSSES, CURVE)
    digest = hashlib.blake2b(repr(run).encode(), digest_size=6).hexdigest()
    assert (VERSION, digest) == (1, "029c3d285824")


def test_times_are_those_of_the_pack():
    run = shown("sweep", "store", "digest", JOB, LOSSES, CURVE)
    assert run.end - run.begin == 1500
    assert run.metrics["pack_seconds", 0] == 1.5


def test_parameters_are_flat_typed_and_without_nulls():
    params = shown("sweep", "store", "digest", JOB, [], []).params
    assert params["task.spectrum"] == "[1.0, 0.5]"
    assert (params["task"], params["task.d"], params["used.step"]) == ("linear_regression", "5", "0.25")
    assert "task.mean" not in params
    assert dict(flat({"seed": 1, "protocol": {"steps": None}})) == {"seed": 1, "protocol.steps": None}


@pytest.mark.parametrize(
    ("value", "expected"), [(True, "true"), (0.1, "0.1"), (3, "3"), ("word", "word"), ((1, 2), "[1, 2]")]
)
def test_values_are_written_as_they_are(value, expected):
    assert text(value) == expected


@pytest.mark.parametrize(
    ("solver", "name"),
    [
        ("memformer(memory=cgd, preconditioner=full)", "memformer cgd full L4 s2 published"),
        ("bayes", "bayes L4 s2 published"),
        ("linear_transformer(preconditioner=full)", "linear_transfo full L4 s2 published"),
        ("memformer(memory=cgd, preconditioner=scalar)", "memforme cgd scalar L4 s2 published"),
        ("gradient_descent(step=0.1)", "gradien_descent 0.1 L4 s2 published"),
    ],
)
def test_names_tell_runs_apart_in_their_first_characters(solver, name):
    assert run_name(JOB | {"solver": solver}) == name
    assert len(name.removesuffix(" published")) <= SHORT + 1


def test_solvers_of_a_figure_have_different_names():
    solvers = [
        f"{name}(preconditioner={p})"
        for name in ("linear_transformer", "memformer", "mixture")
        for p in ("scalar", "full")
    ]
    cut = {run_name(JOB | {"solver": solver, "depth": depth})[:SHORT] for solver in solvers for depth in (1, 2)}
    assert len(cut) == 12


@pytest.mark.parametrize("count", [0, 1, 2, 50, 51, 101, 1000])
def test_curves_are_thinned_to_fifty_points_and_the_last(count):
    rows = [{"step": step} for step in range(count)]
    kept = [row["step"] for row in thinned(rows)]
    assert len(kept) == len(set(kept)) <= 51
    assert kept[:1] == [0][:count]
    assert kept[-1:] == [count - 1][:count]
    assert len(kept) >= min(count, 26)


def test_texts_are_shortened_with_a_digest_and_kept_whole():
    fitted = Fitted()
    long = "".join(str(i) for i in range(9000))
    front, back = fitted.text(long, 100), fitted.text(long, 100, end=True)
    assert len(front) == len(back) == 100
    assert long.startswith(front.partition("…")[0])
    assert long.endswith(back.rpartition("…")[2])
    pieces = fitted.tags()
    assert all(len(piece) <= TAG for piece in pieces.values())
    assert "".join(pieces[key] for key in sorted(pieces, key=lambda key: int(key.rpartition(".")[2]))) == long
    assert fitted.text("a\0b", 10) == "a\N{SYMBOL FOR NULL}b"
    assert fitted.text("x" * 100, 100) == "x" * 100


def test_keys_of_metrics_are_those_that_every_server_takes():
    labels = ["linear_regression(d=5, n=20)", "odd/../name//", "a" * 300, "é", "", "x y", "x_y", "x=y", "[x]=y", "..."]
    fitted = Fitted()
    keys = fitted.keys("log_mse/", labels)
    assert keys.keys() == set(labels)
    assert len(set(keys.values())) == len(labels)
    for key in keys.values():
        assert len(key) <= KEY
        assert re.fullmatch(r"log_mse/[\w.\- ]+", key, re.ASCII)
        assert not key.endswith((".", " "))
    assert keys["linear_regression(d=5, n=20)"] == "log_mse/linear_regression d_5 n_20"
    assert {"x=y", "x_y", "[x]=y", "a" * 300} <= set(fitted.full.values())


@pytest.mark.parametrize(
    ("value", "stored"),
    [(math.nan, (0.0, True)), (math.inf, (1.7976931348623157e308, False)), (-2.5, (-2.5, False))],
)
def test_values_are_as_mlflow_stores_them(value, stored):
    assert finite(value) == stored


def test_a_description_that_somebody_wrote_stays():
    page = Page("mark", "ours")
    tags = page.tags_for({})
    assert tags[NOTE] == "ours"
    assert page.tags_for(tags) == {}
    assert NOTE in Page("mark", "newer").tags_for(tags)
    assert NOTE not in Page("mark", "newer").tags_for(tags | {NOTE: "somebody's"})


def test_the_view_of_a_table_has_the_score_and_what_tells_runs_apart():
    assert table_view().startswith("deflate;")
    assert COLUMNS[0] == "metrics.`log_mse`"
    assert {f"tags.`{name}`" for name in ("solver", "depth", "seed", "protocol")} <= set(COLUMNS)
