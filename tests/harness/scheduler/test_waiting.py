"""The packs that wait, by pool: who gets which, and how an idle worker helps another pool."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lfombench.harness import PROTOCOLS, Job
from lfombench.harness.scheduler.estimate import History
from lfombench.harness.scheduler.packing import PlannedPack, packs
from lfombench.harness.scheduler.pending import Pending
from lfombench.harness.scheduler.pools import Pool
from lfombench.harness.scheduler.waiting import Attempt, Waiting
from lfombench.solvers import LinearTransformer
from lfombench.tasks import LinearRegression

FIRST = Job.of(
    task=LinearRegression(d=20, n=30),
    solver=LinearTransformer(depth=4, preconditioner="full"),
    protocol=replace(PROTOCOLS["rigorous"], steps=400),
    seed=0,
)
CPU = Pool(workers=2)
GPU = Pool("gpu", "some GPU", 2, 8e9, History(usual=0.1))


def planned(pool: Pool, jobs: int) -> list[PlannedPack]:
    return packs([Pending(replace(FIRST, seed=seed), (), "new") for seed in range(jobs)], [pool])


def waiting(*made: PlannedPack, pools: tuple[Pool, ...] = (CPU, GPU)) -> Waiting:
    return Waiting([Attempt(one) for one in made], pools)


def numbers(**there: int):
    return lambda: there


def seeds(attempt: Attempt | None) -> list[int]:
    return sorted(job.seed for job in attempt.pack.jobs) if attempt else []


def test_a_worker_takes_what_was_planned_for_it_in_order():
    made = planned(CPU, 40)
    queue = waiting(*made, *planned(GPU, 40))
    assert queue.counts() == {"cpu": len(made), "gpu": len(list(queue)) - len(made)}
    taken = [queue.take("cpu", numbers(cpu=2, gpu=2)).planned for _ in made]
    assert taken == made
    assert queue.counts()["cpu"] == 0


def test_an_idle_core_takes_of_a_gpus_pack_what_it_can_do_before_the_gpu_is_through():
    """And leaves the rest; every job is taken once."""
    [pack, *_] = planned(GPU, 4000)
    assert pack.cost
    pack = replace(pack, cost=replace(pack.cost, seconds=8.0))  # as a GPU is slower than was thought
    queue = waiting(pack)
    end = pack.seconds / 2
    part = queue.take("cpu", numbers(cpu=2, gpu=2))
    assert part is not None
    assert 0 < len(part.pack.jobs) < len(pack.pack.jobs)
    assert part.planned.pool == "cpu"
    assert part.planned.cost.seconds == pytest.approx(CPU.history.cost(part.pack).seconds)
    assert part.planned.cost.seconds <= end
    rest = queue.take("gpu", numbers(cpu=2, gpu=2))
    assert seeds(part) + seeds(rest) == sorted(job.seed for job in pack.pack.jobs)
    assert part.planned.seconds + rest.planned.seconds == pytest.approx(pack.seconds)  # by which progress is measured
    assert not queue


def test_an_idle_core_leaves_alone_what_it_would_delay():
    """A single job takes it longer than the GPU needs for all."""
    slow = replace(CPU, history=History(usual=1000.0))
    queue = waiting(*planned(GPU, 20), pools=(slow, GPU))
    assert queue.take("cpu", numbers(cpu=2, gpu=2)) is None
    assert queue


def test_where_a_pool_is_gone_others_do_its_packs_as_wide_as_they_can():
    """As where the only node with a GPU has died: no pack waits for ever."""
    slow = replace(CPU, history=History(usual=1000.0))
    made = planned(GPU, 20)
    queue = waiting(*made, pools=(slow, GPU))
    taken = []
    while (attempt := queue.take("cpu", numbers(cpu=2))) is not None:
        taken += seeds(attempt)
    assert sorted(taken) == list(range(20))


def test_an_idle_gpu_takes_packs_of_the_cores_whole():
    made = planned(CPU, 40)
    queue = waiting(*made)
    assert seeds(queue.take("gpu", numbers(cpu=2, gpu=2))) == sorted(job.seed for job in made[0].pack.jobs)


def test_what_is_tried_again_comes_first_and_without_pools_anybody_takes_anything():
    one, two, three = (PlannedPack(p.pack) for p in planned(CPU, 40)[:3])
    queue = waiting(one, pools=())
    queue.first(Attempt(two), Attempt(three))
    assert [queue.take("gpu", numbers()).planned for _ in range(3)] == [two, three, one]
    queue = waiting(replace(one, pool="gpu"), pools=())
    assert queue.take("cpu", numbers()) is not None
