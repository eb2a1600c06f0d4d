"""The packed engine against torch's own optimiser, against itself unpacked, and against closed forms."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from lfombench.harness import PROTOCOLS, Job
from lfombench.harness.compiler.streams import Streams
from lfombench.harness.training import evaluate, train
from lfombench.harness.training.closed_form import fit
from lfombench.harness.training.execute import execute
from lfombench.harness.training.pack import drawing, stack
from lfombench.harness.training.training_step import initial
from lfombench.solvers import BestLfom, ConjugateGradient, GradientDescent, LinearTransformer, Memformer
from lfombench.tasks import LinearRegression
from tests.builders import order

CPU = torch.device("cpu")
TASK = LinearRegression(d=5, n=20, spectrum=(1.0, 1.0, 0.5, 0.25, 1.0))


def prompts_of(tasks, jobs, role, dtype=torch.float64):
    """Prompts of a role as the engine draws them: a function of their number and the step."""
    source = drawing(order(jobs).pack, tasks, role, dtype, CPU)
    return lambda count, step=0: source.draw(source.job, Streams(source.key, dtype, step), count)


QUICK = replace(
    PROTOCOLS["rigorous"], steps=40, batch=64, validation_prompts=128, test_prompts=512, learning_rates=(0.03,)
)
PUBLISHED = replace(PROTOCOLS["published"], steps=30, batch=100, test_prompts=512)


def jobs(solver, protocol=QUICK, seeds=range(3), task=TASK) -> tuple[Job, ...]:
    return tuple(Job.of(task=task, solver=solver, protocol=protocol, seed=seed) for seed in seeds)


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


def test_solvers_meet_the_same_test_prompts():
    """Predicting 0 (step 0) costs every solver exactly the same, block by block."""
    blocks = []
    for solver in (ConjugateGradient(depth=1), LinearTransformer(depth=2, preconditioner="scalar")):
        rows = execute(order(jobs(solver)), CPU).tables["results"].to_pylist()
        blocks.append([row["blocks"] for row in rows if row["step"] == 0])
    assert blocks[0] == blocks[1]
    assert len(blocks[0][0]) == 64


def test_roles_and_seeds_draw_apart():
    pack = jobs(ConjugateGradient(depth=1))
    draws = [prompts_of([TASK] * 3, pack, role)(50) for role in ("train", "validation", "test")]
    seen = torch.cat([draw.w_star for draw in draws])
    assert len(torch.unique(seen[:, 0, :].flatten())) == 9 * 50


def test_a_data_seed_gives_all_seeds_the_same_prompts_but_for_rotation():
    pack = jobs(ConjugateGradient(depth=1), PUBLISHED)
    drawn = prompts_of([TASK] * 3, pack, "train")(50)
    lengths = (drawn.problem.law.root.squeeze(-1).mT @ drawn.w_star).square()  # D g' without U
    assert torch.allclose(lengths[0], lengths[1])
    assert not torch.allclose(drawn.w_star[0], drawn.w_star[1])
    other = prompts_of([TASK], jobs(ConjugateGradient(depth=1), replace(PUBLISHED, data_seed=1), [0]), "train")(50)
    assert not torch.allclose(other.w_star, drawn.w_star[:1])


def test_a_shifted_test_task_turns_with_its_training_task():
    shifted = replace(TASK, spectrum=(2.0,) * 5)
    pack = order(jobs(ConjugateGradient(depth=1), seeds=[7]))
    frames = [drawing(pack.pack, [task], "test", torch.float64, CPU).job["frame"] for task in (TASK, shifted)]
    assert torch.equal(*frames)


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


def test_statistics_of_a_row():
    row = execute(order(jobs(ConjugateGradient(depth=2), seeds=[0])), CPU).tables["results"].to_pylist()[2]
    errors = evaluate.test(order(jobs(ConjugateGradient(depth=2), seeds=[0])), {}, None, CPU)[0]
    assert row["mse"] == pytest.approx(errors[2].mean().item())
    assert row["mse_normalised"] == pytest.approx((errors[2].mean() / errors[0].mean()).item())
    assert row["median"] == pytest.approx(errors[2].quantile(0.5).item())
    assert row["q90"] == pytest.approx(errors[2].quantile(0.9).item())
    assert row["failure_rate"] == pytest.approx((errors[2] > errors[0]).double().mean().item())
    assert sum(row["blocks"]) / 64 == pytest.approx(row["mse"])
    assert row["prompts"] == 512


def test_no_failures_are_counted_at_step_zero_and_a_nan_is_one():
    from lfombench.harness.training.summary import losses_of

    errors = torch.tensor([[1.0, 2.0, 3.0, 4.0] * 16, [0.5, float("nan"), 3.5, 4.0] * 16]).double().numpy()
    found = losses_of(np.stack([errors, errors]), [False, True])
    assert found["failure_rate"] == [0.0, 0.5, None, None]
    assert found["step"] == [0, 1, 0, 1]
    assert found["blocks"][2] is None


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


def test_stacked_floats_have_an_entry_per_job():
    packed = stack([GradientDescent(depth=1, step=0.1), GradientDescent(depth=1, step=0.2)], torch.float32, CPU)
    assert packed.step.shape == (2, 1, 1)
    assert packed.depth == 1
