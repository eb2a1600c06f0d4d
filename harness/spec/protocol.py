"""How a solver is trained, tuned and tested; and experts: solvers that a job of their own has trained."""

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


def _pairs(given: Any) -> Any:
    """A mapping as what can be hashed: pairs, by name."""
    pairs = list(given.items()) if isinstance(given, Mapping) else given
    try:
        return tuple(sorted((name, tuple(values)) for name, values in pairs))
    except (TypeError, ValueError):
        return given  # to be refused


Values = Annotated[tuple[float, ...], MinLen(1)]
Tune = Annotated[tuple[tuple[str, Values], ...], BeforeValidator(_pairs)]


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Adam on the mean squared error of the last iterate, then a test that no training prompt is part of.

    use: the named protocol this one starts from.
    steps, batch: training steps at most, and prompts in each; 0 where nothing is trained.
    labels: what is learned from: the label of each prompt's query; or those of its context alone, every example in turn
        left out as a query.
    cycle: steps of the first cycle of the schedule, each further one taking as many as all before; left out, one cycle
        of all steps. A cycle ends on a look at the validation prompts; the best parameters of all looks are kept.
    plateau: a job is done when a cycle has bettered its log validation loss by less; left out, after all steps.
    halving: after a cycle the best trials go on, one in so many; left out, all do, and the last look chooses.
    renew: new prompts every so many steps; left out, one batch for all steps.
    draw: prompts through X; (G, b) directly, without X; or the shortest of the two that a task knows.
    query: one sampled query a prompt, or the exact mean over queries; in training and in the test.
    learning_rates: all are tried; the validation prompts choose one.
    tune: other floats to try, of the protocol or of a solver, by name, each with its values: {step: [0.1, 0.3]}. A
        trial is a learning rate with a value of each; a name that a solver does not have does not concern it.
    schedule: the learning rate over the steps. beta1, beta2: Adam's.
    clip: the largest Euclidean norm of the gradient of a layer's matrix, or of another parameter; left out, any.
    init_scale: standard deviation of the parameters at the start.
    data_seed: draw the same prompts for every seed, which then sets only rotation and initialisation.
    withheld: examples hidden from methods that have nothing to fit.
    test_on: prompts of their own, or the fixed batch that was trained on, as some of the paper's figures are.
    dtype: of prompts, layers and gradients in training; bfloat16 keeps parameters and Adam in float32. Tests are in
        float64 whatever it is.
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
        """Fields fit each other."""
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
        """Training steps after which a cycle ends, with a validation round."""
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
    # Fresh prompts every step, queries integrated out, a tuned learning rate, steps until more of them do not help, a
    # test that resolves 0.01 nat.
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
    # What is trained already meets another task: so many labelled prompts of it, the same for all, and none to tune on.
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
    """A solver as a job of its own has trained it, as a part of a mixture; its seed is the mixture's plus `apart`.

    task: None is the mixture's own. protocol: without a data seed, the mixture's, if it has one. apart: what is added
    to the mixture's seed; 0 shares its rotation.
    """

    solver: Solver
    task: Task | None
    protocol: Protocol
    apart: int = 0
