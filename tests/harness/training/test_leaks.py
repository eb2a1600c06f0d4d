"""No prompt that something was trained, tuned, fitted or adapted on is ever tested on, by the identity of its stream.

A prompt is its stream's key, its step and its number: other keys are other prompts, whatever the numbers.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lfombench.harness import PROTOCOLS, Sweep, load, run
from lfombench.harness.compiler.streams import keys
from lfombench.harness.spec.labels import spec_of
from lfombench.harness.spec.protocol import Expert
from lfombench.harness.training import pack
from lfombench.solvers import Bayes, BestLfom, ContextMixture, Estimated, GradientDescent, LinearTransformer, Mixture
from lfombench.tasks import LinearRegression

CPU = torch.device("cpu")
TASK = LinearRegression(d=3, n=6)
SHORT = {"steps": 3, "batch": 8, "test_prompts": 64, "validation_prompts": 64}
RIGOROUS = replace(PROTOCOLS["rigorous"], **SHORT, cycle=None, plateau=None, halving=None)
ADAPTED = replace(PROTOCOLS["adapted"], **SHORT)


def experts(*variances: float) -> tuple[Expert, ...]:
    model = LinearTransformer(depth=2, preconditioner="full")
    return tuple(Expert(solver=model, task=replace(TASK, variance=v), protocol=RIGOROUS) for v in variances)


@pytest.fixture
def drawn(monkeypatch):
    """Keys by role, of every stream of prompts that is drawn from."""
    found: dict[str, set[tuple[int, ...]]] = {}

    def noting(words, device):
        made = keys(words, device)
        for word, key in zip(words, made.tolist(), strict=True):
            found.setdefault(word[0], set()).add(tuple(key))
        return made

    monkeypatch.setattr(pack, "keys", noting)
    return found


def wanted(protocol) -> Sweep:
    two = experts(1.0, 2.0)
    solvers = [
        Mixture(depth=2, experts=two),
        Mixture(depth=2, experts=two, combine="outputs", by="least_squares"),
        Mixture(depth=2, experts=experts(1.0)),
        ContextMixture(depth=2, experts=two),
        LinearTransformer(depth=2, preconditioner="full"),
        Estimated(depth=2, method=Bayes(depth=2)),
        GradientDescent(depth=2, step="tuned"),
        BestLfom(depth=2, preconditioner="identity"),
    ]
    tasks = [TASK, replace(TASK, variance=1.5)]  # the first is what an expert was trained on, too
    return Sweep(name="leaks", tasks=tasks, solvers=solvers, protocols=[protocol], seeds=(0, 1), axis="task.variance")


def test_what_learns_and_what_is_tested_share_no_prompt(drawn, tmp_path):
    assert run(wanted(ADAPTED), str(tmp_path), workers=0, mlflow="off").exit_code == 0
    assert set(drawn) == {"frame", "train", "validation", "fit", "test", "portrait", "flops"}
    assert not drawn["test"] & (drawn["train"] | drawn["validation"] | drawn["fit"])
    assert of("test", [TASK]) <= drawn["test"]
    # the target's labelled prompts are the same for all that adapt on them, and an expert's of that task as well
    assert len(drawn["train"]) == 2 * 3
    assert len(drawn["test"]) == 2 * 3


def test_what_is_tested_on_its_training_prompts_is_caught(drawn, tmp_path):
    """As published; so the test above can fail."""
    leaking = replace(ADAPTED, test_on="training")
    sweep = replace(wanted(leaking), solvers=[Mixture(depth=2, experts=experts(2.0))], axis=None)
    assert run(sweep, str(tmp_path), workers=0, mlflow="off").exit_code == 0
    assert of("train", sweep.tasks) <= drawn["train"]
    assert not of("test", sweep.tasks) & drawn["test"]  # only the experts' own tests are of other prompts


def of(role: str, tasks, seeds=(0, 1)) -> set[tuple[int, ...]]:
    """Keys of these tasks' streams."""
    return {tuple(key) for key in keys([(role, spec_of(t), s) for t in tasks for s in seeds], CPU).tolist()}


@pytest.mark.parametrize("name", ["moe", "ood"])
def test_the_streams_of_a_shipped_sweep_are_apart(name):
    """Of all its jobs, experts among them: no key of a test is a key of training or validation."""
    learned, tested = set(), set()
    for job, tests in load(name).entries():
        data = job.seed if job.protocol.data_seed is None else f"data {job.protocol.data_seed}"
        for role in ("train", "validation", "fit"):
            learned |= of(role, [job.task], [data])
        if job.protocol.test_on == "fresh":
            tested |= of("test", [job.task, *tests], [data])
    assert len(tested) > 30
    assert not learned & tested
