"""Protocols: how a solver is trained, tuned and tested. Experts: solvers that jobs of their own have trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import BeforeValidator

from lfombench.solvers import Solver
from lfombench.tasks import Task

Count = Annotated[int, Ge(1), Le(1_000_000_000)]
Rate = Annotated[float, Gt(0)]
Decay = Annotated[float, Ge(0), Lt(1)]
TUNABLE = ("beta1", "beta2", "init_scale", "clip")  # fields of a protocol that it can tune, besides the learning rate
MOST_APART = 1_000_000_000


def _pairs(value: Any) -> Any:
    """A mapping as pairs of name and values, sorted by name, which can be hashed; else the value unchanged."""
    pairs = list(value.items()) if isinstance(value, Mapping) else value
    try:
        return tuple(sorted((name, tuple(values)) for name, values in pairs))
    except (TypeError, ValueError):
        return value  # which validation refuses


Values = Annotated[tuple[float, ...], MinLen(1)]
Tune = Annotated[tuple[tuple[str, Values], ...], BeforeValidator(_pairs)]


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Adam on the mean squared error of the last iterate, then a test that no training prompt is part of.

    use: the name of the protocol that this one starts from.
    steps, batch: maximum number of training steps, and prompts in each; batch is 0 where nothing is trained.
    labels: the labels to learn from. query: the label of each prompt's query. context: only the labels of its examples,
        each example in turn left out as the query.
    cycle: steps of the first cycle of the schedule; each further cycle takes as many steps as all cycles before it.
        Left out, one cycle of all steps. A cycle ends with a validation round, and the best parameters of all rounds
        are the result.
    plateau: a job is done when a cycle has improved its log validation loss by less than this; left out, after all
        steps.
    halving: successive halving: after a cycle the best trials go on, one in `halving`; left out, all trials go on, and
        the last validation round chooses.
    renew: new prompts every `renew` steps; left out, one batch for all steps.
    draw: how prompts are drawn. examples: through X. statistics: (G, b) directly, without X. shortest: the shorter of
        these two ways that the task supports.
    query: one sampled query per prompt, or the exact mean over queries; in training and in the test.
    learning_rates: learning rates to try; the validation prompts choose one.
    tune: other floats to try, of the protocol or of a solver, by name, each with its values: {step: [0.1, 0.3]}. A
        trial is a learning rate with a value of each. A solver ignores the names that it does not have.
    schedule: how the learning rate changes over the steps.
    beta1, beta2: decay rates of Adam's two moment estimates.
    clip: the largest Euclidean norm of the gradient of a layer's matrix, or of another parameter; left out, no limit.
    init_scale: standard deviation of the parameters at initialisation.
    data_seed: draw the same prompts for every seed, which then sets only rotation and initialisation.
    withheld: number of examples of each prompt that are hidden from classical solvers.
    test_on: fresh prompts, or the fixed training batch, as in some of the paper's figures.
    dtype: number type of prompts, layers and gradients in training; bfloat16 keeps parameters and Adam in float32.
        Tests are always in float64.
    """

    use: str
    steps: Count
    batch: Annotated[int, Ge(0), Le(1_000_000_000)]
    renew: Count | None
    draw: Literal["examples", "statistics", "shortest"]
    query: Literal["sampled", "exact"]
    learning_rates: Annotated[tuple[Rate, ...], MinLen(1)]
    schedule: Literal["constant", "cosine"]
    beta1: Decay
    beta2: Decay
    init_scale: Annotated[float, Ge(0)]
    clip: Rate | None = None
    cycle: Count | None = None
    plateau: Annotated[float, Ge(0)] | None = None
    halving: Annotated[int, Ge(2)] | None = None
    tune: Tune = ()
    data_seed: int | None = None
    withheld: Annotated[int, Ge(0)] = 0
    validation_prompts: Count = 16_384
    test_prompts: Annotated[int, Ge(64)] = 102_400
    test_on: Literal["fresh", "training"] = "fresh"
    labels: Literal["query", "context"] = "query"
    dtype: Literal["float32", "float64", "bfloat16"] = "float32"

    def check(self) -> None:
        """Raise ValueError where fields contradict each other."""
        if self.test_on == "training" and self.renew:
            raise ValueError("test_on: training prompts to test on need a fixed batch, renew: null")
        if self.plateau is not None and self.cycle is None:
            raise ValueError("plateau: is judged between cycles; say how long the first cycle is")
        if self.halving is not None and self.cycle is None:
            raise ValueError("halving: happens between cycles; say how long the first cycle is")
        names = [name for name, _ in self.tune]
        if "learning_rate" in names or "learning_rates" in names:
            raise ValueError("tune: learning rates have a field of their own, learning_rates")
        if len(set(names)) < len(names):
            raise ValueError("tune: a name is given twice")
        if self.draw == "statistics" and self.query == "sampled":
            raise ValueError("query: a sampled query needs draw: examples, or shortest")
        if self.draw == "statistics" and self.labels == "context":
            raise ValueError("labels: those of a context are labels of examples, which draw: statistics has none of")

    @property
    def rounds(self) -> tuple[int, ...]:
        """The numbers of training steps after which a cycle ends with a validation round, in ascending order."""
        ends = [min(self.cycle or self.steps, self.steps)]
        while ends[-1] < self.steps:
            ends.append(min(2 * ends[-1], self.steps))
        return tuple(ends)


PROTOCOLS = {
    # As published: arXiv 2410.07263 and its notebooks. One batch of 1000 prompts for all 1000 steps, the same prompts
    # for every seed, 1000 test prompts with a sampled query each, one example withheld from the classical methods.
    "published": Protocol(
        use="published",
        steps=1000,
        batch=1000,
        renew=None,
        draw="examples",
        query="sampled",
        learning_rates=(0.01,),
        schedule="constant",
        beta1=0.9,
        beta2=0.999,
        init_scale=0.01,
        data_seed=999,
        withheld=1,
        test_prompts=1000,
    ),
    # Fresh prompts every step, queries integrated out, a tuned learning rate, training until further steps do not help,
    # a test that resolves 0.01 nat.
    "rigorous": Protocol(
        use="rigorous",
        steps=16_000,
        cycle=1000,
        plateau=0.005,
        halving=3,
        batch=256,
        renew=1,
        draw="shortest",
        query="exact",
        learning_rates=(0.01, 0.03, 0.1),
        schedule="cosine",
        beta1=0.9,
        beta2=0.95,
        init_scale=0.01,
    ),
    # Adapts a trained solver to another task: a fixed batch of labelled prompts of that task, and none for tuning.
    "adapted": Protocol(
        use="adapted",
        steps=500,
        batch=64,
        renew=None,
        draw="examples",
        query="sampled",
        learning_rates=(0.01,),
        schedule="constant",
        beta1=0.9,
        beta2=0.999,
        init_scale=0.01,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Expert:
    """A part of a mixture: a solver that a job of its own has trained, with the mixture's seed plus `apart`.

    task: the task it is trained on; None for the mixture's own. protocol: how it is trained; where it has no data seed,
    it takes the mixture's. apart: the number that is added to the mixture's seed; 0 shares its rotation.
    """

    solver: Solver
    task: Task | None
    protocol: Protocol
    apart: int = 0
