"""From jobs to packs: what shares a program, what is left to run, how wide a pack is and what it will cost."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lfombench.harness import PROTOCOLS, Job
from lfombench.harness.scheduler.estimate import History
from lfombench.harness.scheduler.packing import packs
from lfombench.harness.scheduler.pending import Pending
from lfombench.harness.scheduler.pools import Pool, divided
from lfombench.harness.training.cost import Prior, structure
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
    narrow = packs([Pending(job, (), "new") for job in wide(**quick)], [Pool(memory=40e6)])
    assert 1 < max(len(one.pack.jobs) for one in narrow) < 100
    assert max(one.cost.memory for one in narrow) < 40e6
    sizes = [len(one.pack.jobs) for one in narrow]
    assert max(sizes) - min(sizes) <= 1


def test_a_width_that_was_too_much_is_not_tried_again():
    jobs = wide(steps=1, batch=8, test_prompts=64)
    history = History(widest={structure(jobs[0]): 30})
    assert [
        len(one.pack.jobs) for one in packs([Pending(job, (), "new") for job in jobs], [Pool(history=history)])
    ] == [25] * 4


def test_a_lone_structure_is_spread_over_the_workers():
    long = [job.changed(protocol=replace(PROTOCOLS["rigorous"], steps=100)) for job in wide()]
    assert len(packs([Pending(job, (), "new") for job in long[:4]], [Pool(workers=4)])) == 4
    quick = [job.changed(task=LinearRegression(d=5, n=6)) for job in long]
    assert (
        len(packs([Pending(job, (), "new") for job in quick[:4]], [Pool(workers=4)])) == 1
    )  # compiling four times would cost more


def in_parts(jobs: int, costs: list[tuple[float, float]], workers: list[int]) -> list[int]:
    """How many jobs each pool gets. costs: seconds of a pack, and of each of its jobs."""
    priors = [Prior(fixed, each, 0.0, 1.0) for fixed, each in costs]
    parts = divided(range(jobs), priors, workers)
    assert [job for part in parts for job in part] == list(range(jobs))
    return [len(part) for part in parts]


def test_pools_get_what_they_have_done_at_the_same_time():
    """One GPU beside 64 cores of which each takes a hundred times as long; a compilation costs the cores a second."""
    [gpu, cpu] = in_parts(100_000, [(2.0, 0.001), (1.0, 0.1)], [4, 64])
    assert 2.0 + gpu * 0.001 / 4 == pytest.approx(1.0 + cpu * 0.1 / 64, abs=0.1)
    assert cpu > 10_000


def test_a_pool_that_would_be_last_with_a_single_job_gets_none():
    assert in_parts(240, [(1.0, 0.01), (1.0, 30.0)], [4, 64]) == [240, 0]
    assert in_parts(3, [(1.0, 30.0), (1.0, 30.0)], [0, 2]) == [0, 3]
    assert in_parts(0, [(1.0, 1.0), (1.0, 2.0)], [1, 1]) == [0, 0]


@given(
    st.integers(0, 60),
    st.lists(st.tuples(st.floats(0, 10), st.floats(1e-2, 100), st.integers(0, 5)), min_size=1, max_size=3),
)
def test_no_division_of_jobs_is_done_earlier(jobs, pools):
    """Compared with every way to give two pools a part, and every pool alone."""
    workers = [number for *_, number in pools]
    costs = [(fixed, each) for fixed, each, _ in pools]
    assume(any(workers))

    def end(parts: Sequence[int]) -> float:
        """When the last worker is done, each doing whole jobs."""
        ends = [
            fixed + -(-part // number) * each if part else 0.0
            for part, (fixed, each, number) in zip(parts, pools, strict=True)
        ]
        return max(ends)

    found = end(in_parts(jobs, costs, workers))
    there = [i for i, number in enumerate(workers) if number]
    for i, j in itertools.product(there, there):
        for part in range(jobs + 1):
            parts = [0] * len(pools)
            parts[i], parts[j] = (part, jobs - part) if i != j else (jobs, jobs)
            assert found <= end(parts) * (1 + 1e-6) + 1e-6


def test_a_plan_for_a_cluster_uses_its_cores_beside_its_gpu():
    """Two hundred and forty jobs of a second on six cores and two GPUs became two packs."""
    task, solver = LinearRegression(d=20, n=30), LinearTransformer(depth=4, preconditioner="full")
    jobs = [
        Job.of(task=task, solver=solver, protocol=replace(PROTOCOLS["rigorous"], steps=400), seed=s) for s in range(240)
    ]
    pools = [Pool("gpu", "some GPU", 8, 4e9, History(usual=0.3)), Pool("cpu", "cpu", 6)]
    made = packs([Pending(job, (), "new") for job in jobs], pools)
    by_pool = {pool.kind: [one for one in made if one.pool == pool.kind] for pool in pools}
    assert len(by_pool["gpu"]) >= 8
    assert len(by_pool["cpu"]) >= 6
    assert sorted(job.seed for one in made for job in one.pack.jobs) == list(range(240))
    ends = [sum(one.seconds for one in by_pool[pool.kind]) / pool.workers for pool in pools]
    assert max(ends) < 1.5 * min(ends)
