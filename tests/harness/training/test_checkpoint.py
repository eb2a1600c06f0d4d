"""Training that stops and goes on: the same bits at the same width, at another width, and with a part of the jobs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lfombench.harness import PROTOCOLS, Job
from lfombench.harness.training import train
from lfombench.harness.training.checkpoint import Checkpoint
from lfombench.harness.training.pack import WorkOrder
from lfombench.solvers import GdPlusPlus, LinearTransformer, Memformer
from lfombench.tasks import LinearRegression
from tests.builders import order

CPU = torch.device("cpu")
TASK = LinearRegression(d=3, n=6)
LT = LinearTransformer(depth=2, preconditioner="full")
MEMFORMER = Memformer(depth=2, memory="lfom", preconditioner="full", gate="token")
BASE = replace(PROTOCOLS["rigorous"], batch=8, test_prompts=64, validation_prompts=32)
PROTOCOLS_TRIED = {
    "one cycle": replace(BASE, steps=26, cycle=None, plateau=None, halving=None, learning_rates=(0.01,)),
    "cycles, rates, halving, a plateau": replace(
        BASE, steps=48, cycle=12, plateau=0.05, halving=2, learning_rates=(1e-9, 0.003, 0.01, 0.1)
    ),
    "a fixed batch, diverging": replace(
        BASE, steps=26, renew=None, cycle=None, plateau=None, halving=None, learning_rates=(0.01, 1e15)
    ),
}


def pack(protocol, solver=LT, seeds=range(4), engine="looped") -> WorkOrder:
    jobs = [Job.of(task=TASK, solver=solver, protocol=protocol, seed=seed) for seed in seeds]
    return order(jobs, engine=engine, stride=10)


def stopped(given: WorkOrder, stops: int) -> Checkpoint | None:
    """The state after so many stages; None where it ends before."""
    stages = train.train(given, CPU)
    try:
        for _ in range(stops):
            moment = next(stages)
        return moment()
    except StopIteration:
        return None


def same(one: train.Trained, two: train.Trained, jobs=slice(None)) -> None:
    """To the bit, in all that is kept."""
    for name, p in one.params.items():
        assert torch.equal(p, two.params[name][jobs]), name
    points = len(one.curve_steps)  # of two, others may have trained for longer
    for mine, theirs in ((one.losses, two.losses), (one.gradient_norms, two.gradient_norms)):
        assert torch.equal(mine.nan_to_num(-1), theirs[:points, jobs].nan_to_num(-1))
        assert theirs[points:, jobs].isnan().all()
    assert one.curve_steps == two.curve_steps[:points]
    for name in ("chosen", "diverged", "steps", "budget", "jobs"):
        assert getattr(one, name) == getattr(two, name)[jobs], name


@pytest.mark.parametrize("engine", ["looped", "eager"])
@pytest.mark.parametrize("protocol", PROTOCOLS_TRIED.values(), ids=list(PROTOCOLS_TRIED))
def test_going_on_gives_the_same_bits_as_never_having_stopped(protocol, engine):
    """Stopped at every stage there is, gone on with all jobs, with two of them, and with each alone."""
    given = pack(protocol, engine=engine)
    whole = train.run(given, CPU)[0]
    stops, over = 1, False
    while (found := stopped(given, stops)) is not None:
        same(train.run(replace(given, resume=found), CPU)[0], whole)
        for part in (slice(1, 3), slice(3, 4)):
            jobs = given.jobs[part]
            resume = found.select([job.id for job in jobs])
            over |= not resume.live
            same(train.run(replace(given.for_jobs(jobs), resume=resume), CPU)[0], cut(whole, part))
        stops += 1
    assert stops > 3
    assert over == (protocol.plateau is not None)  # a part of which no job trains any more


def cut(trained: train.Trained, part: slice) -> train.Trained:
    """Of some jobs."""
    return replace(
        trained,
        params={name: p[part] for name, p in trained.params.items()},
        losses=trained.losses[:, part],
        gradient_norms=trained.gradient_norms[:, part],
        **{name: getattr(trained, name)[part] for name in ("chosen", "diverged", "steps", "budget", "jobs")},
    )


@pytest.mark.parametrize("solver", [LT, MEMFORMER, GdPlusPlus(depth=1)], ids=["lt", "memformer", "gd++"])
def test_packs_that_stopped_at_one_point_go_on_as_one(solver):
    protocol = PROTOCOLS_TRIED["cycles, rates, halving, a plateau"]
    parts = [pack(protocol, solver, seeds) for seeds in (range(2), range(2, 3))]
    found = [stopped(part, 2) for part in parts]
    assert found[0].point == found[1].point == (0, 10, 4)
    joined = Checkpoint.join(found)
    both = pack(protocol, solver, range(3))
    same(train.run(replace(both, resume=joined), CPU)[0], train.run(both, CPU)[0])
    assert joined.select(found[1].jobs).split()[1] == found[1].split()[1]


def test_parts_are_joined_of_which_one_trains_no_more():
    """As packs are that were split where some jobs had reached their plateau, and the rest had not."""
    given = pack(PROTOCOLS_TRIED["cycles, rates, halving, a plateau"])
    whole = train.run(given, CPU)[0]
    stages, found = 1, []
    while (one := stopped(given, stages)) is not None:
        found.append(one)
        stages += 1
    narrow = next(one for one in found if 0 < len(one.live) < len(one.jobs))
    over = [job for j, job in enumerate(narrow.jobs) if j not in narrow.live]
    parts = [narrow.select(over), narrow.select([job for job in narrow.jobs if job not in over])]
    assert parts[0].live == []
    joined = Checkpoint.join(parts)
    same(train.run(replace(given, resume=joined.select(narrow.jobs)), CPU)[0], whole)


def test_a_checkpoint_is_not_touched_by_what_is_trained_after_it():
    given = pack(PROTOCOLS_TRIED["one cycle"])
    stages = train.train(given, CPU)
    next(stages)
    found = next(stages)()
    before = {name: x.clone() for name, x in found.tensors.items()}
    next(stages)
    train.run(replace(given, resume=found), CPU)
    assert all(torch.equal(x, before[name]) for name, x in found.tensors.items())
