"""From jobs to packs: what shares a program, what is left to run, how wide a pack is and what it will cost."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lfombench.harness import PROTOCOLS, Job, Sweep
from lfombench.harness.scheduler.packing import estimate, packs
from lfombench.harness.scheduler.pending import Todo, pending
from lfombench.harness.spec.fingerprint import code
from lfombench.harness.spec.labels import label
from lfombench.harness.training.cost import History, prior, structure
from lfombench.harness.training.pack import Cost, Pack
from lfombench.solvers import ConjugateGradient, GradientDescent, LinearTransformer, Memformer
from lfombench.tasks import LinearRegression

SWEEP = Sweep(
    name="good",
    tasks=[LinearRegression(d=2, n=3, spectrum=(1, 0.5))],
    solvers=[
        ConjugateGradient(depth=4),
        *(Memformer(memory="cgd", preconditioner=p, depth=depth) for p in ("scalar", "full") for depth in (1, 2)),
    ],
    protocols=[replace(PROTOCOLS["rigorous"], steps=50)],
    seeds=range(2),
)


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
    made = packs([Todo(job, (), "new") for job in jobs])
    assert sorted(job.id for pack in made for job in pack.jobs) == sorted(job.id for job in jobs)
    assert all(len({job.structure for job in pack.jobs}) == 1 for pack in made)
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
    assert [len(pack.jobs) for pack in packs([Todo(job, (), "new") for job in wide(**quick)])] == [100]
    assert max(len(pack.jobs) for pack in packs([Todo(job, (), "new") for job in wide(steps=5000)])) < 10  # seconds
    narrow = packs([Todo(job, (), "new") for job in wide(**quick)], memory=40e6)
    assert 1 < max(len(pack.jobs) for pack in narrow) < 100
    assert max(pack.expected.memory for pack in narrow) < 40e6
    sizes = [len(pack.jobs) for pack in narrow]
    assert max(sizes) - min(sizes) <= 1


def test_a_width_that_was_too_much_is_not_tried_again():
    jobs = wide(steps=1, batch=8, test_prompts=64)
    history = History(widest={structure(jobs[0]): 30})
    assert [len(pack.jobs) for pack in packs([Todo(job, (), "new") for job in jobs], history)] == [25] * 4


def test_a_lone_structure_is_spread_over_the_workers():
    long = [job.having(protocol=replace(PROTOCOLS["rigorous"], steps=100)) for job in wide()]
    assert len(packs([Todo(job, (), "new") for job in long[:4]], workers=4)) == 4
    quick = [job.having(task=LinearRegression(d=5, n=6)) for job in long]
    assert (
        len(packs([Todo(job, (), "new") for job in quick[:4]], workers=4)) == 1
    )  # compiling four times would cost more


def test_pending_are_the_jobs_that_lack_a_test():
    jobs = list(SWEEP.jobs())
    own, shifted = jobs[0].task, LinearRegression(d=2, n=9)
    done = {job.id: frozenset({(label(own), code(job.case))}) for job in jobs[:4]}
    done[jobs[0].id] |= {(label(shifted), code(jobs[0].case, shifted))}
    assert [one.job for one in pending([(job, ()) for job in jobs], done)] == jobs[4:]
    left = list(pending([(job, (shifted,)) for job in jobs], done, failed={jobs[4].id: "it broke"}))
    assert [one.job for one in left] == jobs[1:]
    assert [(one.why, one.trained) for one in left[:5]] == [
        *[("further test", True)] * 3,
        ("failed before", False),
        ("new", False),
    ]


def test_what_other_code_gave_is_pending_again_unless_it_may_be_kept():
    job = next(SWEEP.jobs())
    own, shifted = label(job.task), LinearRegression(d=2, n=9)
    entries = [(job, (shifted,))]
    new = (code(job.case), code(job.case, shifted))
    for old, (trained, stale) in {
        ("x", new[1]): (False, {own, label(shifted)}),
        (new[0], "x"): (True, {label(shifted)}),
    }.items():
        done = {job.id: frozenset(zip((own, label(shifted)), old, strict=True))}
        [one] = pending(entries, done, explain=lambda old, now: f"{old} is not now")
        assert (one.why, one.trained, set(one.stale)) == ("stale: x is not now", trained, stale)
        assert not list(pending(entries, done, keep=True))
    assert not list(pending(entries, {job.id: frozenset(zip((own, label(shifted)), new, strict=True))}))


def seen(job: Job, *factors: float) -> History:
    """A store in which packs of that job's structure cost so many times the prior."""
    p = prior(job)
    return History.of(
        [
            {
                "structure": structure(job),
                "pack_seconds": f * p.seconds(3),
                "prior_seconds": p.seconds(3),
                "pack_memory": 2 * p.bytes(3),
                "prior_memory": p.bytes(3),
            }
            for f in factors
        ],
        {},
    )


def test_history_corrects_the_prediction_and_narrows_its_interval():
    job, other = list(SWEEP.jobs())[:2]
    plain = History().cost(Pack((job,)))
    assert not plain.measured
    assert plain.low < plain.seconds < plain.high
    measured = seen(job, 5.0, 5.0, 5.0).cost(Pack((job,)))
    assert measured.measured
    assert measured.seconds == pytest.approx(5 * plain.seconds)
    assert measured.memory == pytest.approx(2 * plain.memory)
    assert measured.high / measured.low < plain.high / plain.low
    spread = seen(job, 1.0, 3.0, 9.0).cost(Pack((job,)))
    assert spread.high / spread.low > measured.high / measured.low
    assert seen(other, 5.0).cost(Pack((job,))).seconds == pytest.approx(5 * History().cost(Pack((job,))).seconds)


def test_the_interval_holds_what_it_says():
    """Packs whose cost is log-normal about the prior: 80 % of new ones lie in the interval, from 65 to 95 here."""
    job = wide()[0]
    random = np.random.default_rng(0)
    inside = 0
    for _ in range(300):
        cost = seen(job, *np.exp(0.7 + 0.4 * random.standard_normal(20))).cost(Pack((job,)))
        inside += cost.low < prior(job).seconds(1) * np.exp(0.7 + 0.4 * random.standard_normal()) < cost.high
    assert 0.65 < inside / 300 < 0.95


def test_an_estimate_sums_over_workers():
    costs = [Cost(4.0, 2.0, 8.0, 0.0, True), Cost(1.0, 0.5, 2.0, 0.0, False), Cost(1.0, 0.5, 2.0, 0.0, False)]
    two = estimate(costs, 2)
    assert (two.seconds, two.low, two.high, two.measured) == (4.0, 2.0, 8.0, True)
    assert estimate(costs, 1).seconds == 6.0
    assert estimate([], 2).seconds == 0
