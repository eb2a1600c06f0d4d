"""What names jobs, structures and labels for ever, on every Python: values that must never change by themselves."""

from __future__ import annotations

from itertools import islice

from lfombench.harness import load
from lfombench.harness.spec.labels import digest, label
from lfombench.harness.training.cost import structure


def test_ids_and_labels_are_what_they_always_were(small):
    """A change here makes every store run again: is it meant?"""
    jobs = list(load(str(small)).jobs())
    first = jobs[0]
    assert first.id == "b4d237c2c53b39fa3032"
    assert label(first.task) == "linear_regression(d=3, n=8)"
    assert label(first.protocol) == "published(steps=20, batch=50, test_prompts=256)"
    assert label(jobs[-1].protocol) == (
        "rigorous(steps=20, batch=32, learning_rates=[0.01, 0.1], validation_prompts=64, test_prompts=256)"
    )
    assert digest([job.id for job in jobs]) == "f24a9f7563a69de3f9e3"
    assert digest([structure(job) for job in jobs]) == "747c0ee62410a0796048"


def test_so_are_those_of_the_papers_sweep_and_of_mixtures_of_experts():
    """Which have nested parts, and labels with digests of their own."""
    found = {}
    for name in ("fig1", "moe", "ood"):
        jobs = list(islice(load(name).jobs(), 500))
        labels = [[label(part) for part in (job.task, job.solver, job.protocol)] for job in jobs]
        found[name] = digest([job.id for job in jobs]), digest(labels)
    assert found == {
        "fig1": ("e2c87a02b43a90c987cb", "1a9dcf1f714af9106a01"),
        "moe": ("69e8085bf5c38e3492c1", "f247e520412a65a95c1c"),
        "ood": ("eb276e4d7de24955dd6f", "eec5bf99bc04ad93a941"),
    }
