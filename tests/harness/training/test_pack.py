"""Where the jobs of a pack get their prompts and floats from."""

from __future__ import annotations

from dataclasses import replace

import torch

from lfombench.harness.training.execute import execute
from lfombench.harness.training.pack import drawing, stack
from lfombench.solvers import ConjugateGradient, GradientDescent, LinearTransformer
from tests.builders import order
from tests.trainings import CPU, PUBLISHED, TASK, jobs, prompts_of


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


def test_stacked_floats_have_an_entry_per_job():
    packed = stack([GradientDescent(depth=1, step=0.1), GradientDescent(depth=1, step=0.2)], torch.float32, CPU)
    assert packed.step.shape == (2, 1, 1)
    assert packed.depth == 1
