"""Jobs that need others: mixtures and their experts, from the sweep's file to the store."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import pytest

from lfombench.analysis.assemble import boards
from lfombench.analysis.results import Tables, sweeps, table
from lfombench.harness import PROTOCOLS, Job, Sweep, load, run
from lfombench.harness.driver.explain import explain
from lfombench.harness.driver.plan import make_plan
from lfombench.harness.errors import SpecError
from lfombench.harness.spec.fingerprint import code_parts
from lfombench.harness.spec.labels import label
from lfombench.harness.spec.protocol import Expert
from lfombench.harness.store.store import Store
from lfombench.solvers import LinearTransformer, Memformer, Mixture
from lfombench.tasks import LinearRegression, LogisticRegression

QUICK = replace(PROTOCOLS["published"], steps=3, batch=16, test_prompts=64)
ADAPTED = replace(PROTOCOLS["adapted"], steps=3, batch=8, test_prompts=64)
TASK = LinearRegression(d=3, n=6)
DEPTH = 2


@dataclass(frozen=True, kw_only=True)
class Broken(LinearTransformer):
    """An expert that cannot be trained."""

    def iterates(self, params, problem):
        raise ArithmeticError("as ordered")


def expert(scale: float = 1.0, solver=None, **task) -> Expert:
    solver = solver or LinearTransformer(depth=DEPTH, preconditioner="full")
    return Expert(solver=solver, task=replace(TASK, spectrum=(scale,) * 3, **task), protocol=QUICK)


def mixture(*experts: Expert, **options) -> Mixture:
    return Mixture(depth=DEPTH, experts=experts, **options)


def sweep(*solvers, **options) -> Sweep:
    return Sweep(
        **{"name": "mixed", "tasks": [TASK], "solvers": solvers, "protocols": [ADAPTED], "seeds": (0, 1)} | options
    )


def weights(out: str) -> dict[tuple[str, str], np.ndarray]:
    rows = table(out, "weights").collect()
    return {(row["job"], row["name"]): np.array(row["values"]) for row in rows.iter_rows(named=True)}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    out = str(tmp_path_factory.mktemp("experts") / "out")
    solver = mixture(expert(1.0), expert(2.0))
    return out, sweep(solver, mixture(expert(1.0), moves="nothing")), run(sweep(solver), out, workers=0, mlflow="off")


def test_experts_are_jobs_that_run_first(done):
    out, _, summary = done
    assert (summary.jobs, summary.ran, summary.exit_code) == (6, 6, 0)
    jobs = table(out, "jobs").collect()
    assert sorted(jobs["solver"].unique()) == sorted(
        label(s) for s in (expert().solver, mixture(expert(), expert(2.0)))
    )
    last = jobs.filter(pl.col("solver").str.starts_with("mixture"))["finished"].min()
    assert jobs.filter(pl.col("solver").str.starts_with("linear"))["finished"].max() < last


def test_a_mixture_keeps_its_experts_as_they_were_and_moves_its_gates(done):
    out, _, _ = done
    found = weights(out)
    for job in sweep(mixture(expert(1.0), expert(2.0))).jobs():
        for e, other in enumerate(job.experts):
            assert np.array_equal(found[job.id, f"{e}.A"], found[other.id, "A"])
        if job.experts:
            assert not np.array_equal(found[job.id, "gates"], [0.5, 0.5])
            assert found[job.id, "scale"] == [1.0]


def test_why_says_what_a_mixture_is_made_of(done):
    out, _, _ = done
    [job, *_] = [one for one in sweep(mixture(expert(1.0), expert(2.0))).jobs() if one.experts]
    found = explain(Store(out), job.id)["experts"]
    assert [line.rpartition(" ")[2] for line in found] == [one.id for one in job.experts]
    assert explain(Store(out), job.experts[0].id)["experts"] == []


def test_another_mixture_of_the_same_experts_trains_none(done):
    out, more, _ = done
    summary = run(more, out, workers=0, mlflow="off")
    assert (summary.jobs, summary.ran) == (8, 2)
    alone = table(out, "results").filter(pl.col("solver").str.contains("moves=nothing")).collect()
    assert alone["family"].unique().to_list() == ["control"]


def test_one_expert_that_does_not_move_is_the_expert_on_another_task(tmp_path):
    """Tested on the same prompts of the target, both say the same."""
    out = str(tmp_path / "out")
    one = expert(2.0)
    fixed = mixture(one, moves="nothing")
    run(sweep(fixed), out, workers=0, mlflow="off")
    direct = Sweep(name="direct", tasks=[one.task], solvers=[one.solver], protocols=[QUICK], seeds=(0, 1), tests=[TASK])
    summary = run(direct, out, workers=0, mlflow="off")
    assert summary.ran == 2
    rows = table(out, "results").filter((pl.col("test") == label(TASK)) & (pl.col("step") == DEPTH)).collect()
    by_seed = rows.sort("solver", "seed").group_by("solver", maintain_order=True).agg(pl.col("prompts"))
    assert len(by_seed) == 2


def test_what_does_not_move_counts_at_its_own_depth_alone(tmp_path):
    """As it is made of models that were trained for that depth."""
    solvers = []
    for depth in (1, 2):
        one = expert(solver=LinearTransformer(depth=depth, preconditioner="full"))
        solvers.append(Mixture(depth=depth, experts=(replace(one, task=TASK),), moves="nothing"))
    run(sweep(*solvers), str(tmp_path), workers=0, mlflow="off")
    results = table(str(tmp_path), "results").filter(pl.col("family") == "control").collect()
    own = results.filter(pl.col("step") == pl.col("depth"))
    means = dict(own.group_by("step").agg(pl.col("log_mse").mean()).iter_rows())
    assert len(results.filter(pl.col("step") == 1)) == 4  # two of them on the way to depth 2
    [wanted] = sweeps(str(tmp_path))
    [row] = [r for b in boards(Tables(str(tmp_path)), wanted).boards for r in b.rows if r.family == "control"]
    assert {depth: cell.mean for depth, cell in row.cells.items()} == pytest.approx(means)


def test_an_expert_that_fails_is_named(tmp_path):
    out = str(tmp_path / "out")
    broken = expert(solver=Broken(depth=DEPTH, preconditioner="full"))
    wanted = sweep(mixture(expert(), broken, combine="outputs"), seeds=(0,))
    summary = run(wanted, out, workers=0, mlflow="off")
    assert summary.exit_code == 3
    assert len(summary.failed) == 2
    assert "expert" in dict(summary.failed)[next(name for name, _ in summary.failed if name.startswith("mixture"))]
    plan = make_plan(wanted, Store(out))
    assert {(len(one.pack.jobs), one.waits) for one in plan.packs} == {(1, False), (1, True)}


def test_an_expert_that_diverges_is_named(tmp_path):
    wild = Expert(solver=expert().solver, task=TASK, protocol=replace(QUICK, learning_rates=(1e30,), steps=20))
    summary = run(sweep(mixture(wild), seeds=(0,)), str(tmp_path), workers=0, mlflow="off")
    [(name, reason)] = summary.failed
    assert name.startswith("mixture")
    [other, _] = sweep(mixture(wild), seeds=(0,)).jobs()
    assert reason.startswith(f"an expert diverged, job {other.id}: ")


def test_the_code_of_an_expert_counts():
    memformer = expert(solver=Memformer(depth=DEPTH, memory="cgd", preconditioner="full"))
    [*_, job] = sweep(mixture(expert(), memformer)).jobs()
    own = {"mixture.py:Mixture", "memformer.py:Memformer", "linear_transformer.py:LinearTransformer"}
    assert {f"solvers/{part}" for part in own} <= code_parts(job.case).keys()


@pytest.mark.parametrize(
    ("own", "mixture_s", "trained_with"), [(None, None, None), (None, 7, 7), (3, 7, 3), (3, None, 3)]
)
def test_an_expert_without_a_data_seed_has_the_mixture_s(own, mixture_s, trained_with):
    one = replace(expert(), protocol=replace(QUICK, data_seed=own))
    adapted = replace(ADAPTED, data_seed=mixture_s)
    trained, _ = sweep(mixture(one), protocols=[adapted], seeds=(4,)).jobs()
    alone = sweep(one.solver, tasks=[one.task], protocols=[replace(QUICK, data_seed=trained_with)], seeds=(4,))
    assert [trained.id] == [job.id for job in alone.jobs()]


@pytest.mark.parametrize(
    ("solver", "protocol", "said"),
    [
        (
            mixture(expert(), Expert(solver=expert().solver, task=LinearRegression(d=4, n=6), protocol=QUICK)),
            ADAPTED,
            "d = 4",
        ),
        (mixture(expert(), expert()), replace(ADAPTED, batch=0), "batch=0"),
        (mixture(expert(), expert(solver=LinearTransformer(depth=3, preconditioner="full"))), ADAPTED, "of depth 2, 3"),
        (
            mixture(
                expert(n=9, solver=Memformer(depth=DEPTH, memory="lfom", preconditioner="full", gate="token")),
                combine="outputs",
            ),
            ADAPTED,
            "each of n = 9",
        ),
    ],
)
def test_what_is_refused_when_it_is_planned(solver, protocol, said):
    with pytest.raises(SpecError, match=said):
        sweep(solver, protocols=[protocol])


def test_without_prompts_what_does_not_move_can_be_tested(tmp_path):
    solver = mixture(expert(), moves="nothing")
    summary = run(sweep(solver, protocols=[replace(ADAPTED, batch=0)]), str(tmp_path / "out"), workers=0, mlflow="off")
    assert summary.exit_code == 0


FILE = """\
name: named
protocol: {use: adapted, steps: 3, batch: 8, test_prompts: 64}
experts:
  one: {solver: {linear_transformer: {preconditioner: full}}, task: {isotropic: {d: 3, n: 6}}, protocol: EXPERT}
  two:
    solver: {mixture: {experts: [INNER]}}
    task: {isotropic: {d: 3, n: 6}}
    protocol: {use: adapted, steps: 2, batch: 4}
tasks: [linear_regression: {d: 3, n: 6}]
solvers:
  - mixture: {experts: {each: [[one], [one, LAST]]}, combine: outputs, depth: {each: [1, 2]}}
"""


def written(tmp_path, inner="one", last="two", expert="{use: published, steps: 3, batch: 16}") -> str:
    path = tmp_path / "named.yaml"
    path.write_text(FILE.replace("INNER", inner).replace("LAST", last).replace("EXPERT", expert))
    return str(path)


def test_experts_by_name_and_experts_of_experts(tmp_path):
    found = load(written(tmp_path))
    depths = [(job.solver.depth, [e.solver.depth for e in job.experts]) for job in found.jobs()]
    assert sorted(depths) == [(1, []), (1, [1]), (1, [1]), (1, [1, 1]), (2, []), (2, [2]), (2, [2]), (2, [2, 2])]
    summary = run(found, str(tmp_path / "out"), workers=0, mlflow="off")
    assert (summary.ran, summary.exit_code) == (8, 0)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"inner": "two"}, r"line 6.*two -> two: an expert cannot be made of itself"),
        ({"last": "three"}, "line 11.*no expert 'three'.*allowed: one, two"),
        ({"expert": "publishd"}, "publishd"),
        ({"expert": "{use: published, stepz: 3}"}, "unknown key 'stepz'"),
    ],
)
def test_a_file_with_experts_that_cannot_be(tmp_path, changed, said):
    with pytest.raises(SpecError, match=said):
        load(written(tmp_path, **changed))


def test_along_an_axis_experts_are_tested_on_every_task(tmp_path):
    """But for those that they cannot be tested on."""
    tasks = [replace(TASK, variance=v) for v in (1.0, 2.0)]
    token = Memformer(depth=DEPTH, memory="lfom", preconditioner="full", gate="token")
    wanted = sweep(mixture(expert(), combine="outputs"), tasks=tasks, axis="task.variance", seeds=(0,))
    assert [len(tests) for job, tests in wanted.entries() if not job.experts] == [2]
    longer = [TASK, replace(TASK, n=9)]
    wanted = sweep(mixture(expert(solver=token), combine="outputs"), tasks=longer, axis="task.n", seeds=(0,), skip=True)
    assert [tests for job, tests in wanted.entries() if not job.experts] == [(TASK,)]
    run(sweep(mixture(expert()), tasks=tasks, axis="task.variance", seeds=(0,)), str(tmp_path), workers=0, mlflow="off")
    rows = table(str(tmp_path), "results").filter(pl.col("solver").str.starts_with("linear")).collect()
    assert set(rows["test"]) == {label(expert().task), *map(label, tasks)}


def test_the_id_is_that_of_the_canonical_form():
    solver = mixture(expert(1.0), expert(2.0))
    job = Job.of(task=TASK, solver=solver, protocol=ADAPTED, seed=0)
    spec = json.loads(job.spec)
    assert spec["solver"]["mixture"]["experts"][1]["task"]["linear_regression"]["spectrum"] == [2.0, 2.0, 2.0]
    assert job == next(j for j in sweep(solver).jobs() if j.solver == solver)


@pytest.mark.parametrize(
    "solver", [mixture(expert(), expert(2.0)), mixture(expert(), combine="outputs", by="least_squares")]
)
def test_gates_that_learn_from_contexts_alone(tmp_path, solver):
    """They move, and elsewhere than where the queries' labels would have moved them."""
    trained = {}
    for name in ("query", "context"):
        wanted = sweep(solver, protocols=[replace(ADAPTED, labels=name)], seeds=(0,))
        assert run(wanted, str(tmp_path / name), workers=0, mlflow="off").exit_code == 0
        [*_, job] = wanted.jobs()
        trained[name] = weights(str(tmp_path / name))[job.id, "gates"]
    even = 1 / len(solver.experts)
    assert not np.allclose(trained["context"], even)
    assert not np.array_equal(trained["context"], trained["query"])


@pytest.mark.parametrize(
    ("task", "said"),
    [(LinearRegression(d=3, n=1), "leaves none"), (LogisticRegression(d=3, n=6), "labels that are targets")],
)
def test_contexts_that_cannot_be_learned_from(task, said):
    solver = LinearTransformer(depth=DEPTH, preconditioner="full")
    with pytest.raises(SpecError, match=said):
        sweep(solver, tasks=[task], protocols=[replace(ADAPTED, labels="context")])
