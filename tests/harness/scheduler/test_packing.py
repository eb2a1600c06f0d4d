"""From jobs to packs: what shares a program, what is left to run, how wide a pack is and what it will cost."""

from __future__ import annotations

from dataclasses import replace

from lfombench.harness import PROTOCOLS, Job
from lfombench.harness.scheduler.estimate import History
from lfombench.harness.scheduler.packing import packs
from lfombench.harness.scheduler.pending import Pending
from lfombench.harness.training.cost import structure
from lfombench.solvers import GradientDescent, LinearTransformer
from lfombench.tasks import LinearRegression
from tests.builders import SWEEP


def test_floats_are_data_and_the_rest_is_structure():
    def structure(**changes) -> str:
        parts = {
            "task": LinearRegression(d=2, n=3, noise=0.1),
            "solver": GradientDescent(depth=2, step=0.1),
            "protocol": PROTOCOLS["rigorous"],
            "seed": 0,
        }
        return Job.of(**(parts | changes)).structure

    same = [
        {"seed": 5},
        {"task": LinearRegression(d=2, n=3, noise=0.7)},
        {"solver": GradientDescent(depth=2, step=0.9)},
        {
            "protocol": replace(
                PROTOCOLS["rigorous"], learning_rates=(1.0, 2.0, 3.0), beta1=0.5, init_scale=1.0, data_seed=4
            )
        },
    ]
    other = [
        {"task": LinearRegression(d=2, n=4, noise=0.1)},
        {"task": LinearRegression(d=2, n=3, noise=0.1, spectrum=(1.0, 1.0))},
        {"solver": GradientDescent(depth=2, step="per_layer")},
        {"solver": GradientDescent(depth=3, step=0.1)},
        {"protocol": replace(PROTOCOLS["rigorous"], learning_rates=(1.0,))},
        {"protocol": replace(PROTOCOLS["rigorous"], steps=10)},
    ]
    assert {structure(**change) for change in same} == {structure()}
    assert len({structure(), *(structure(**change) for change in other)}) == 7


def test_packs_hold_every_job_once_and_one_structure_each():
    jobs = list(SWEEP.jobs())
    made = packs([Pending(job, (), "new") for job in jobs])
    assert sorted(job.id for one in made for job in one.pack.jobs) == sorted(job.id for job in jobs)
    assert all(len({job.structure for job in one.pack.jobs}) == 1 for one in made)
    assert len(made) == 5


def wide(**protocol) -> list[Job]:
    given = Job.of(
        task=LinearRegression(d=50, n=60),
        solver=LinearTransformer(depth=4, preconditioner="full"),
        protocol=replace(PROTOCOLS["published"], **protocol),
        seed=0,
    )
    return [replace(given, seed=s) for s in range(100)]


def test_a_pack_is_as_wide_as_time_and_memory_allow():
    quick = {"steps": 1, "batch": 8, "test_prompts": 64}
    assert [len(one.pack.jobs) for one in packs([Pending(job, (), "new") for job in wide(**quick)])] == [100]
    assert (
        max(len(one.pack.jobs) for one in packs([Pending(job, (), "new") for job in wide(steps=5000)])) < 10
    )  # seconds
    narrow = packs([Pending(job, (), "new") for job in wide(**quick)], memory=40e6)
    assert 1 < max(len(one.pack.jobs) for one in narrow) < 100
    assert max(one.cost.memory for one in narrow) < 40e6
    sizes = [len(one.pack.jobs) for one in narrow]
    assert max(sizes) - min(sizes) <= 1


def test_a_width_that_was_too_much_is_not_tried_again():
    jobs = wide(steps=1, batch=8, test_prompts=64)
    history = History(widest={structure(jobs[0]): 30})
    assert [len(one.pack.jobs) for one in packs([Pending(job, (), "new") for job in jobs], history)] == [25] * 4


def test_a_lone_structure_is_spread_over_the_workers():
    long = [job.changed(protocol=replace(PROTOCOLS["rigorous"], steps=100)) for job in wide()]
    assert len(packs([Pending(job, (), "new") for job in long[:4]], workers=4)) == 4
    quick = [job.changed(task=LinearRegression(d=5, n=6)) for job in long]
    assert (
        len(packs([Pending(job, (), "new") for job in quick[:4]], workers=4)) == 1
    )  # compiling four times would cost more
