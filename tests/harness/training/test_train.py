"""The packed engine against torch's own optimiser, against itself unpacked, and against closed forms."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch

from lfombench.harness import PROTOCOLS, Job
from lfombench.harness.training import evaluate, train
from lfombench.harness.training.closed_form import fit
from lfombench.harness.training.execute import execute
from lfombench.harness.training.training_step import initial
from lfombench.solvers import BestLfom, ConjugateGradient, GradientDescent, LinearTransformer, Memformer
from lfombench.tasks import LinearRegression
from tests.builders import order
from tests.trainings import CPU, PUBLISHED, QUICK, TASK, jobs, prompts_of


@pytest.mark.parametrize(
    "protocol",
    [
        QUICK,
        PUBLISHED,
        replace(QUICK, schedule="constant", beta1=0.5),
        replace(PUBLISHED, renew=7, clip=0.05, beta1=0.99, beta2=0.9),
    ],
    ids=["rigorous", "published", "other", "clipped"],
)
def test_training_is_torchs_adam(protocol):
    """The same prompts, start and schedule with torch.optim.Adam give the same parameters."""
    pack = order(jobs(Memformer(depth=2, memory="cgd", preconditioner="full"), protocol, seeds=[4]))
    ours = train.run(pack, CPU)[0]
    params = {name: p.requires_grad_() for name, p in initial(pack, CPU).items()}
    optimiser = torch.optim.Adam(params.values(), lr=protocol.learning_rates[0], betas=(protocol.beta1, protocol.beta2))
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, protocol.steps)
    draw = prompts_of([TASK], pack.jobs, "train", torch.float32)
    for step in range(protocol.steps):
        batch = draw(protocol.batch, step // protocol.renew if protocol.renew else 0)
        optimiser.zero_grad()
        loss = batch.squared_error(evaluate.last(evaluate.iterates(pack.first.solver, params, batch))).mean()
        loss.backward()
        for p in params.values():
            for layer in p.grad[0, 0] if protocol.clip else []:
                layer *= min(1.0, protocol.clip / layer.norm().item())
        optimiser.step()
        if protocol.schedule == "cosine":
            cosine.step()
    for name, p in params.items():
        assert torch.allclose(ours.params[name][0], p[0, 0], rtol=1e-3, atol=1e-4), name
    assert ours.losses[-1, 0].item() == pytest.approx(loss.item(), rel=1e-3)


@pytest.mark.parametrize("protocol", [QUICK, PUBLISHED, replace(QUICK, learning_rates=(0.01, 0.1))])
@pytest.mark.parametrize(
    "solver",
    [
        LinearTransformer(depth=3, preconditioner="full"),
        ConjugateGradient(depth=3),
        BestLfom(depth=3, preconditioner="identity"),
    ],
    ids=lambda s: type(s).__name__,
)
def test_packing_changes_no_number(solver, protocol):
    """Each job alone, in a pack, and in the pack turned round."""
    pack = order(jobs(solver, protocol))
    together = execute(pack, CPU).tables["results"].to_pylist()
    turned = execute(order(pack.jobs[::-1]), CPU).tables["results"].to_pylist()
    alone = [row for job in pack.jobs for row in execute(order((job,)), CPU).tables["results"].to_pylist()]
    by_key = {(row["job"], row["step"]): row for row in together}
    assert len(by_key) == 3 * 4
    for row in alone + turned:
        assert row["log_mse"] == pytest.approx(by_key[row["job"], row["step"]]["log_mse"], abs=1e-3)


def test_jobs_with_other_floats_share_a_pack_and_keep_their_numbers():
    noisy = [replace(TASK, noise=noise) for noise in (0.0, 0.5)]
    mixed = tuple(
        Job.of(task=task, solver=GradientDescent(depth=2, step=step), protocol=QUICK, seed=0)
        for task in noisy
        for step in (0.1, 0.5)
    )
    assert len({job.structure for job in mixed}) == 1
    together = execute(order(mixed), CPU).tables["results"].to_pylist()
    for job in mixed:
        alone = execute(order((job,)), CPU).tables["results"].to_pylist()
        assert [r["mse"] for r in together if r["job"] == job.id] == pytest.approx([r["mse"] for r in alone], rel=1e-9)


def test_withheld_examples_cost_only_the_classical():
    fewer = replace(QUICK, withheld=15)
    losses = {
        (type(solver).__name__, protocol.withheld): execute(order(jobs(solver, protocol)), CPU)
        .tables["results"]
        .to_pylist()[2]["mse"]
        for solver in (ConjugateGradient(depth=2), BestLfom(depth=2, preconditioner="identity"))
        for protocol in (QUICK, fewer)
    }
    assert losses["ConjugateGradient", 15] > 2 * losses["ConjugateGradient", 0]
    assert losses["BestLfom", 15] == pytest.approx(losses["BestLfom", 0], rel=0.5)


def test_validation_chooses_the_learning_rate():
    trained = train.run(
        order(
            jobs(LinearTransformer(depth=1, preconditioner="scalar"), replace(QUICK, learning_rates=(1e-6, 0.1, 1e-5)))
        ),
        CPU,
    )[0]
    assert [chosen["learning_rate"] for chosen in trained.chosen] == [0.1, 0.1, 0.1]


def test_a_diverging_member_is_frozen_and_its_neighbours_finish():
    """One job's step size explodes; the others give what they give without it."""
    solver = LinearTransformer(depth=3, preconditioner="full")
    calm = jobs(solver)
    wild = jobs(solver, replace(QUICK, learning_rates=(1e12,)), seeds=[9])
    mixed = train.run(order((*calm[:2], *wild, *calm[2:])), CPU)[0]
    alone = train.run(order(calm), CPU)[0]
    assert [bool(reason) for reason in mixed.diverged] == [False, False, True, False]
    assert "not finite at step" in mixed.diverged[2]
    assert "1e+12" in mixed.diverged[2]
    assert torch.all(mixed.params["A"].isfinite())
    assert torch.allclose(mixed.params["A"][[0, 1, 3]], alone.params["A"], rtol=1e-4, atol=1e-5)
    rows = execute(order((*calm, *wild)), CPU).tables
    lost = [row for row in rows["results"].to_pylist() if row["status"] == "diverged"]
    assert len(lost) == 4
    assert all(row["mse"] is None and row["blocks"] is None for row in lost)


def test_a_diverging_rate_is_not_chosen():
    solver = LinearTransformer(depth=3, preconditioner="full")
    trained = train.run(order(jobs(solver, replace(QUICK, learning_rates=(1e12, 0.03)))), CPU)[0]
    assert [chosen["learning_rate"] for chosen in trained.chosen] == [0.03] * 3
    assert trained.diverged == [None] * 3


def test_curves_fall_and_end_at_the_last_steps():
    tables = execute(order(jobs(LinearTransformer(depth=1, preconditioner="scalar"))), CPU).tables
    curve = [row for row in tables["curves"].to_pylist() if row["job"] == tables["jobs"]["job"][0].as_py()]
    assert [row["step"] for row in curve] == list(range(1, 41))
    assert curve[-1]["loss"] < curve[0]["loss"]
    assert all(row["gradient_norm"] > 0 for row in curve)


@pytest.mark.parametrize(
    ("preconditioner", "depth", "expected", "within"),
    [("scalar", 2, 0.445, 0.02), ("full", 1, 0.143, 0.02), ("full", 2, -1.018, 0.04)],
)
@pytest.mark.parametrize("memory", [False, True], ids=["linear_transformer", "memformer"])
def test_trained_models_reach_the_closed_form(preconditioner, depth, expected, within, memory):
    """And none beats its bound on the same prompts by more than it could by chance."""
    solver = (
        Memformer(depth=depth, memory="cgd", preconditioner=preconditioner)
        if memory
        else LinearTransformer(depth=depth, preconditioner=preconditioner)
    )
    protocol = replace(PROTOCOLS["rigorous"], steps=1500, learning_rates=(0.03,))
    pack = order(jobs(solver, protocol, seeds=[0]))
    found = evaluate.test(pack, train.run(pack, CPU)[0].params, None, CPU)[0, depth].mean().log().item()
    assert found == pytest.approx(expected, abs=within)
    bound = BestLfom(depth=depth, preconditioner="identity" if preconditioner == "scalar" else "covariance")
    limit = order(jobs(bound, protocol, seeds=[0]))
    assert found > evaluate.test(limit, fit(limit, CPU).params, None, CPU)[0, depth].mean().log().item() - 0.005


@dataclass(frozen=True, kw_only=True)
class Uniform(LinearRegression):
    """A user's task that only knows how to draw examples."""

    def prompts(self, random, frame, prompts):
        return super(LinearRegression, self).prompts(random, frame, prompts)


def test_a_task_without_a_shortcut_runs_as_well():
    task = Uniform(d=3, n=5)
    rows = execute(order(jobs(ConjugateGradient(depth=3), task=task)), CPU).tables["results"].to_pylist()
    assert rows[3]["mse"] < 1e-12


@dataclass(frozen=True, kw_only=True)
class Explodes(ConjugateGradient):
    """Runs to infinity."""

    def iterates(self, params, problem):
        for k, w in enumerate(super().iterates(params, problem)):
            yield w if k < 2 else w / 0


def test_a_test_error_that_is_not_finite_is_an_outcome():
    tables = execute(order(jobs(Explodes(depth=3))), CPU).tables
    assert set(tables["jobs"]["status"].to_pylist()) == {"diverged"}
    assert tables["jobs"]["reason"][0].as_py() == "the test error is not finite from step 2 on"
    assert tables["results"]["mse"].null_count == len(tables["results"])


def test_overflow_on_one_test_does_not_touch_the_others():
    """Gradient descent with a step that the task stands, a shifted one does not, and a third does again."""
    wild, mild = replace(TASK, spectrum=(1e3,) * 5), replace(TASK, noise=0.1)
    solver = GradientDescent(depth=60, step=0.5)
    tables = execute(order(jobs(solver, seeds=[0]), (wild, mild)), CPU).tables
    fates = {row["test"]: (row["status"], row["mse"] is None) for row in tables["results"].to_pylist()}
    assert list(fates.values()) == [("done", False), ("diverged", True), ("done", False)]
    assert tables["jobs"]["status"].to_pylist() == ["done"]


@dataclass(frozen=True, kw_only=True)
class Wrong(LinearTransformer):
    """Breaks the contract in a way of its choice."""

    way: str

    def init(self, d, n, normal):
        if self.way == "no parameters":
            return {}
        return {"A": torch.zeros(self.depth, d, d)} if self.way == "no jobs" else super().init(d, n, normal)

    def iterates(self, params, problem):
        w = problem.start()
        for _ in range(self.depth + (self.way != "too few")):
            yield w[..., :1] if self.way == "misshapen" else w + 0 * params["A"].sum()


@pytest.mark.parametrize(
    ("way", "says"),
    [
        ("too few", r"gave 2 tensors, needs depth \+ 1 = 3"),
        ("misshapen", r"gave w_0 of shape \(3, 5, 1\), needs \(jobs, d, prompts\) = \(3, 5, 2\)"),
        ("no parameters", "is a learned method: its init must return parameters"),
        ("no jobs", r"init gave A of shape \(2, 5, 5\), needs \(1, 3, ...\)"),
    ],
)
def test_a_solver_that_breaks_its_contract_is_told(way, says):
    solver = Wrong(depth=2, preconditioner="full", way=way)
    with pytest.raises(ValueError, match=says):
        execute(order(jobs(solver)), CPU)
